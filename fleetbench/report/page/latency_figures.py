"""Figures of latencies, and of what a token takes in energy and money."""

from __future__ import annotations

from fleetbench.report.page.spec import (
    FAINT,
    INK,
    LOAD,
    OFFSET_STEP,
    ROOM,
    ROW_HEIGHT,
    Figure,
    Scales,
    Spec,
    batch_colour,
    first_panels,
    heading,
    number,
    recipe_colour,
    recipe_rows,
    side_by_side,
    tips,
)

_BANDS = (
    "The tick is the median; the thick bar has the middle half of the samples, the line 90 % of them, the dot is p99. "
)
_FEW = "A quantile is left out where the samples, counted at the right, are too few to tell it."


def ttft(scales: Scales) -> Figure:
    """How long the first token takes, by recipe and load."""
    return _distribution(scales, "ttft", "Time to first token", "TTFT, ms")


def itl(scales: Scales) -> Figure:
    """How long the next token takes, by recipe and load."""
    return _distribution(scales, "itl", "Time between tokens", "ITL, ms")


def _distribution(scales: Scales, name: str, title: str, axis: str) -> Figure:
    """By load and place; levels that are missing fall together with the median."""
    levels = {
        f"{name}_{level}": f"{name}_{instead}"
        for level, instead in (("p25", "p50"), ("p75", "p50"), ("p05", "p25"), ("p95", "p75"))
    }
    transform = [
        *first_panels("load_at", (f"{name}_p50",)),
        {"calculate": "replace(datum.panel, '\\n', ', ') + '\\n' + datum.load", "as": "load_panel"},
        *({"calculate": f"isValid(datum.{to}) ? datum.{to} : datum.{of}", "as": to} for to, of in levels.items()),
        {"calculate": f"isValid(datum.{name}_p99) ? datum.{name}_p99 : datum.{name}_p95", "as": "far"},
        {"calculate": f"'n ' + format(datum.{name}_samples, ',')", "as": "label"},
    ]
    quantiles = [(f"{name}_{level}", level, ",.4~r") for level in ("p05", "p25", "p50", "p75", "p95", "p99")]
    seen = tips(LOAD, quantiles, ((f"{name}_samples", "samples", ","),))
    colour, rows = recipe_colour(scales), recipe_rows()
    lead = number(f"{name}_p05", axis, scale=ROOM, axis={"tickCount": 5})
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"x": lead, "x2": {"field": f"{name}_p95"}, "y": rows, "color": colour, "tooltip": seen},
        },
        {
            "mark": {"type": "bar", "height": 9},
            "encoding": {
                "x": number(f"{name}_p25"),
                "x2": {"field": f"{name}_p75"},
                "y": rows,
                "color": colour,
                "tooltip": seen,
            },
        },
        {
            "mark": {"type": "tick", "color": INK, "thickness": 2, "size": 13},
            "encoding": {"x": number(f"{name}_p50"), "y": rows, "tooltip": seen},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 26},
            "encoding": {
                "x": number("far"),
                "y": rows,
                "color": colour,
                "opacity": {"condition": {"test": f"isValid(datum.{name}_p99)", "value": 1}, "value": 0},
                "tooltip": seen,
            },
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 7, "fontSize": 9, "color": FAINT},
            "encoding": {"x": number("far"), "y": rows, "text": {"field": "label", "type": "nominal"}},
        },
    ]
    return Figure(
        name=name,
        title=title,
        says=_BANDS + _FEW,
        dataset="cells",
        needs=(f"{name}_p50",),
        spec=side_by_side(
            layers,
            data="cells",
            transform=transform,
            height={"step": ROW_HEIGHT},
            panel=heading("load_panel", "load_at"),
            free=("x", "y"),
        ),
        without="No trial has kept a distribution.",
        panels="load_at",
    )


def energy(scales: Scales) -> Figure:
    """Energy of an output token by recipe and batch."""
    return _dots(
        scales,
        "energy",
        title="Energy",
        axis="J per output token, gross",
        says="What all devices drew over the measured window, over its output tokens; one mark a cell, a line from the "
        "lowest to the highest trial.",
        without="No energy was measured: see the power status in the table of cells.",
    )


def cost(scales: Scales) -> Figure:
    """Cost of a million output tokens by recipe and batch."""
    return _dots(
        scales,
        "cost",
        title="Cost",
        axis="USD per million output tokens",
        says="The price of the GPUs' time over the tokens that they gave in it; one mark a cell, a line from the "
        "fastest to the slowest trial.",
        without="No cost is known: the table of prices says why.",
    )


def _dots(scales: Scales, name: str, *, title: str, axis: str, says: str, without: str) -> Figure:
    """One mark for each cell, by recipe; batches are colours."""
    seen = tips(LOAD, ((name, axis, ",.3~r"), (f"{name}_low", "lowest", ",.3~r"), (f"{name}_high", "highest", ",.3~r")))
    shared = {
        "y": recipe_rows(),
        "yOffset": {"field": "batch", "type": "ordinal"},
        "color": batch_colour(scales),
        "tooltip": seen,
    }
    lines = number(f"{name}_low", axis, axis={"tickCount": 5})
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5},
            "encoding": {"x": lines, "x2": {"field": f"{name}_high"}, **shared},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 36, "opacity": 1},
            "encoding": {"x": number(name), **shared},
        },
    ]
    return Figure(
        name=name,
        title=title,
        says=says,
        dataset="cells",
        needs=(name,),
        spec=side_by_side(
            layers,
            data="cells",
            transform=first_panels("panel_at", (name,)),
            height={"step": OFFSET_STEP},
            free=("x", "y"),
        ),
        without=without,
    )
