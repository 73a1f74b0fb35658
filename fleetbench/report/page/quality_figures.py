"""Figures of quality, of speed against it, and of what became of the cells."""

from __future__ import annotations

from fleetbench.report.page.spec import (
    FAINT,
    INK,
    OUTCOMES,
    PANEL_HEIGHT,
    ROOM,
    ROW_HEIGHT,
    WHAT,
    Figure,
    Scales,
    Spec,
    Tip,
    first,
    first_panels,
    number,
    recipe_colour,
    recipe_rows,
    side_by_side,
    tips,
)

_PERCENT: Spec = {"tickCount": 5, "labelExpr": "datum.value > 100 ? '' : datum.label"}
_ACCURACY: tuple[Tip, ...] = (
    *WHAT,
    ("category", "category", ""),
    ("right", "right, %", ".1f"),
    ("right_low", "low", ".1f"),
    ("right_high", "high", ".1f"),
    ("n", "items", ","),
)


def accuracy(scales: Scales) -> Figure:
    """Right answers by recipe and category."""
    colour, rows, seen = recipe_colour(scales), recipe_rows(), tips(_ACCURACY)
    title = "right answers, %"
    label = {"type": "text", "align": "left", "dx": 7, "fontSize": 9, "color": FAINT}
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.6},
            "encoding": {
                "x": number("right_low", title, scale=ROOM, axis=_PERCENT),
                "x2": {"field": "right_high"},
                "y": rows,
                "color": colour,
                "tooltip": seen,
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 42, "opacity": 1},
            "encoding": {"x": number("right"), "y": rows, "color": colour, "tooltip": seen},
        },
        {
            "mark": label,
            "encoding": {"x": number("right_high"), "y": rows, "text": {"field": "label", "type": "nominal"}},
        },
    ]
    transform = [
        *first_panels("panel_at", ("right",)),
        {"calculate": "'n ' + format(datum.n, ',')", "as": "label"},
    ]
    return Figure(
        name="accuracy",
        title="Quality by recipe: right answers",
        says="Lines: Wilson's 95 % interval; n: items. Where the lines of two recipes overlap, these items may not "
        "tell them apart. Models of random weights are not here.",
        dataset="accuracy",
        needs=("right",),
        spec=side_by_side(layers, data="accuracy", transform=transform, height={"step": ROW_HEIGHT}, free=("x", "y")),
        without="No quality was measured of a model whose weights were trained.",
    )


def divergence(scales: Scales) -> Figure:
    """Divergence from the reference by recipe."""
    seen = tips(
        WHAT, (("kl", "KL, nats", ".3~r"), ("kl_se", "standard error", ".2~r"), ("positions", "positions", ","))
    )
    colour, rows = recipe_colour(scales), recipe_rows()
    scale = {"type": "symlog", "constant": 1e-4, "nice": False, "padding": 76}
    ticks = {"values": [0, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10], "format": "~g"}
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.6},
            "encoding": {
                "x": number("kl_low", "KL divergence from the reference, nats", scale=scale, axis=ticks),
                "x2": {"field": "kl_high"},
                "y": rows,
                "color": colour,
                "tooltip": seen,
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 42, "opacity": 1},
            "encoding": {"x": number("kl"), "y": rows, "color": colour, "tooltip": seen},
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 8, "dy": -7, "fontSize": 10, "color": INK},
            "encoding": {"x": number("kl"), "y": rows, "text": {"field": "label", "type": "nominal"}},
        },
    ]
    transform = [
        *first_panels("panel_at", ("kl",)),
        {"calculate": "format(datum.kl, '.2~g') + ' (n ' + format(datum.positions, ',') + ')'", "as": "label"},
    ]
    return Figure(
        name="divergence",
        title="Quality by recipe: divergence",
        says="How far the engine's next-token probabilities are from those under the reference, at the same forced "
        "positions (n). Lines: the standard error. Left is better.",
        dataset="divergence",
        needs=("kl",),
        spec=side_by_side(layers, data="divergence", transform=transform, height={"step": 30}, free=("y",)),
        without="No divergence was measured of a model whose weights were trained.",
    )


def trade(scales: Scales) -> Figure:
    """Speed-up against accuracy: what a recipe gives and what it takes."""
    seen = tips(
        WHAT,
        (
            ("ratio", "times the reference", ".3~r"),
            ("ratio_low", "lowest cell", ".3~r"),
            ("ratio_high", "highest cell", ".3~r"),
        ),
        (("cells", "cells", ","), ("right", "right, %", ".1f"), ("n", "items", ",")),
        (("quality_model", "quality of", ""), ("quality_hardware", "quality on", ""), ("suite", "suite", "")),
    )
    colour = recipe_colour(scales)
    x = number("right", "right answers, %", scale=ROOM, axis=_PERCENT)
    y = number("ratio", "speed-up (x reference)", scale={"zero": False, "padding": 16}, axis={"tickCount": 5})
    thin = {"type": "rule", "strokeWidth": 1.5, "opacity": 0.45}
    layers: list[Spec] = [
        {"mark": thin, "encoding": {"x": number("right_low"), "x2": {"field": "right_high"}, "y": y, "color": colour}},
        {"mark": thin, "encoding": {"x": x, "y": number("ratio_low"), "y2": {"field": "ratio_high"}, "color": colour}},
        {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour, "tooltip": seen},
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 7, "dy": -8, "fontSize": 11, "color": INK, "limit": 120},
            "encoding": {"x": x, "y": y, "text": {"field": "recipe", "type": "nominal"}},
        },
    ]
    return Figure(
        name="trade",
        title="Speed against quality",
        says="Up is faster (geometric mean over all loads, line: lowest to highest cell), right is better (Wilson's "
        "95 % interval). Where a model gives speed alone, another's answers under the same recipe and engine stand "
        "for its own: the heading names both.",
        dataset="trade",
        needs=("ratio", "right"),
        spec=side_by_side(
            layers,
            data="trade",
            transform=first_panels("panel_at", ("ratio", "right")),
            height=PANEL_HEIGHT,
            free=("x", "y"),
        ),
        without="No recipe has both a speed-up and right answers.",
    )


def coverage() -> Figure:
    """What became of the cells that were asked for."""
    colour = {
        "field": "outcome",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(OUTCOMES), "range": list(OUTCOMES.values())},
    }
    order = {"field": "outcome_at", "type": "quantitative"}
    bars = {
        "x": {
            "aggregate": "sum",
            "field": "cells",
            "type": "quantitative",
            "title": "cells",
            "axis": {"tickMinStep": 1, "tickCount": 8},
        },
        "y": {"field": "hardware", "type": "nominal", "title": None, "sort": first("hardware")},
        "color": colour,
        "order": order,
        "tooltip": [
            {"field": "hardware", "type": "nominal"},
            {"field": "outcome", "type": "nominal"},
            {"aggregate": "sum", "field": "cells", "type": "quantitative", "title": "cells"},
        ],
    }
    layers: list[Spec] = [
        {"mark": {"type": "bar", "height": 16, "stroke": "white", "strokeWidth": 0.5}, "encoding": bars}
    ]
    names = ", ".join(f"'{name}'" for name in OUTCOMES)
    transform = [
        *first_panels("panel_at", ("cells",)),
        {"calculate": f"indexof([{names}], datum.outcome)", "as": "outcome_at"},
    ]
    return Figure(
        name="coverage",
        title="Coverage",
        says="Cells by what became of them, speed and quality alike; those that were planned and never tried are "
        "counted in the table of runs.",
        dataset="coverage",
        needs=("cells",),
        spec=side_by_side(layers, data="coverage", transform=transform, height={"step": ROW_HEIGHT}, free=("x", "y")),
        without="No cell is known.",
    )
