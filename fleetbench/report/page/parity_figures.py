"""The figure of the parity gate: what each recipe lost, against what may be lost."""

from __future__ import annotations

from fleetbench.report.page.spec import (
    INK,
    ROW_HEIGHT,
    WHAT,
    Figure,
    Spec,
    first_panels,
    number,
    recipe_rows,
    side_by_side,
    tips,
)

VERDICTS = {"PASS": "#009e73", "INCONCLUSIVE": "#e69f00", "BLOCK": "#d55e00"}


def parity() -> Figure:
    """The drop of the right answers by recipe and category, with its bounds, and the margin as a line."""
    colour = {
        "field": "verdict",
        "type": "nominal",
        "title": "verdict",
        "scale": {"domain": list(VERDICTS), "range": list(VERDICTS.values())},
    }
    rows = recipe_rows()
    seen = tips(
        WHAT,
        (
            ("category", "category", ""),
            ("verdict", "verdict", ""),
            ("loss", "drop, points", ".2f"),
            ("loss_low", "low", ".2f"),
            ("loss_high", "high", ".2f"),
            ("margin", "margin", ".2f"),
            ("n", "items", ","),
        ),
    )
    scale = {"zero": True, "padding": 12}
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "color": INK, "strokeDash": [3, 2]},
            "encoding": {"x": number("margin", "drop of right answers, points", scale=scale, aggregate="max")},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.7},
            "encoding": {
                "x": number("loss_low", scale=scale),
                "x2": {"field": "loss_high"},
                "y": rows,
                "color": colour,
                "tooltip": seen,
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 42, "opacity": 1},
            "encoding": {"x": number("loss"), "y": rows, "color": colour, "tooltip": seen},
        },
    ]
    return Figure(
        name="parity",
        title="Parity with the reference",
        says="Points: how many more of a hundred items only the reference has right; lines: one-sided 95 % bounds; "
        "dashed: the margin. A recipe passes a category where its line ends left of it, and has to pass them all.",
        dataset="parity",
        needs=("loss",),
        spec=side_by_side(
            layers,
            data="parity",
            transform=first_panels("panel_at", ("loss",)),
            height={"step": ROW_HEIGHT},
            free=("x", "y"),
        ),
        without="No recipe's quality was judged against a reference.",
    )
