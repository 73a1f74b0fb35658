"""Figures of throughput: Pareto front, the fastest recipe, speed-up, and all of it by hardware, batch and context."""

from __future__ import annotations

from fleetbench.report.page.spec import (
    EMPTY,
    FAINT,
    INK,
    LINE,
    LOAD,
    OFFSET_STEP,
    PANEL_HEIGHT,
    SHAPES,
    Figure,
    Scales,
    Spec,
    Tip,
    batch_colour,
    first,
    first_panels,
    heading,
    number,
    recipe_colour,
    recipe_rows,
    side_by_side,
    tips,
)

_SPEED: tuple[Tip, ...] = (
    ("per_gpu", "output tok/s per GPU", ",.4~r"),
    ("per_gpu_low", "slowest trial", ",.4~r"),
    ("per_gpu_high", "fastest trial", ",.4~r"),
    ("user_tok_s", "tok/s per user", ",.4~r"),
    ("ratio", "times the reference", ".3~r"),
)
_HEAT_PANELS = 6
_MOST_LABELS = 24
"""Points on the fronts of a panel, above which their labels would cover each other."""
_NAME = 18
"""Characters of a recipe's name that a heat table has room for."""
_DARK_FROM = 0.55
"""Share of the scale from which text is white."""


def pareto(scales: Scales) -> Figure:
    """Throughput of a GPU against the speed that one user sees, by model and length of prompts."""
    needs = ("user_tok_s", "per_gpu")
    log = {"type": "log", "nice": False, "padding": 16}
    axis = {"tickCount": 5, "format": "~s"}
    x = number("user_tok_s", "tok/s per user", scale=log, axis=axis)
    y = number("per_gpu", scales.per_gpu, scale=log, axis=axis)
    transform = [
        *first_panels("subject_at", needs),
        {"calculate": "datum.ships ? datum.per_gpu : null", "as": "shown"},
        {
            "window": [{"op": "max", "field": "shown", "as": "best"}],
            "sort": [{"field": "user_tok_s", "order": "descending"}, {"field": "per_gpu", "order": "descending"}],
            "groupby": ["subject", "hardware"],
            "frame": [None, 0],
        },
        {"calculate": "datum.ships && datum.per_gpu >= datum.best ? datum.per_gpu : null", "as": "front"},
        {"joinaggregate": [{"op": "valid", "field": "front", "as": "on_front"}], "groupby": ["subject"]},
        {
            "calculate": f"isValid(datum.front) && isValid(datum.batch) && datum.on_front <= {_MOST_LABELS}"
            " ? format(datum.batch, ',') : ''",
            "as": "label",
        },
    ]
    detail = {"field": "hardware", "type": "nominal"}
    shape = {
        **detail,
        "title": "hardware",
        "scale": {"range": list(SHAPES)},
        "legend": {"symbolFillColor": FAINT, "symbolStrokeColor": FAINT},
    }
    colour = recipe_colour(scales)
    spread = {"type": "rule", "opacity": 0.5, "strokeWidth": 1}
    layers: list[Spec] = [
        {
            "mark": {"type": "line", "color": LINE, "strokeWidth": 1.5, "invalid": "filter"},
            "encoding": {"x": x, "y": number("front", scale=log), "detail": detail},
        },
        {
            "mark": spread,
            "encoding": {"x": x, "y": number("per_gpu_low"), "y2": {"field": "per_gpu_high"}, "color": colour},
        },
        {"mark": spread, "encoding": {"x": number("user_low"), "x2": {"field": "user_high"}, "y": y, "color": colour}},
        {
            "mark": {"type": "point", "filled": True, "size": 46, "opacity": 0.9},
            "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": tips(LOAD, _SPEED)},
        },
        {
            "mark": {"type": "text", "dy": -9, "fontSize": 10, "color": INK},
            "encoding": {"x": x, "y": y, "detail": detail, "text": {"field": "label", "type": "nominal"}},
        },
    ]
    return Figure(
        name="pareto",
        title="Throughput against speed for each user",
        says="Up and to the right is better. The line joins what nothing else on that hardware beats in both, of "
        "recipes whose quality is shown to hold where any was judged; a number on it is the requests in flight. Thin "
        "bars: slowest to fastest trial. Both axes are logarithmic.",
        dataset="cells",
        needs=needs,
        spec=side_by_side(
            layers,
            data="cells",
            transform=transform,
            height=PANEL_HEIGHT,
            panel=heading("subject", "subject_at"),
            free=("x", "y"),
        ),
        without="No cell has both a rate and a time between tokens.",
        panels="subject_at",
    )


def best(scales: Scales) -> Figure:
    """The fastest recipe at each load of a place."""
    transform = [
        *first_panels("panel_at", ("per_gpu", "batch", "context_tok")),
        {
            "joinaggregate": [{"op": "distinct", "field": "recipe", "as": "measured"}],
            "groupby": ["panel", "batch", "context_tok"],
        },
        {"filter": "datum.ships && datum.measured > 1"},
        {
            "window": [{"op": "row_number", "as": "rank"}],
            "sort": [{"field": "per_gpu", "order": "descending"}],
            "groupby": ["panel", "batch", "context_tok"],
        },
        {"filter": "datum.rank === 1"},
        {"calculate": "[datum.recipe, format(datum.per_gpu, ',.3~r')]", "as": "label"},
    ]
    x, y = _context(), {"field": "batch", "type": "ordinal", "title": "batch", "sort": "descending"}
    layers: list[Spec] = [
        {
            "mark": {"type": "rect", "opacity": 0.3, "stroke": "white"},
            "encoding": {"x": x, "y": y, "color": recipe_colour(scales), "tooltip": tips(LOAD, _SPEED)},
        },
        {
            "mark": {"type": "text", "fontSize": 11, "color": INK, "lineHeight": 13, "baseline": "middle", "dy": -6},
            "encoding": {"x": x, "y": y, "text": {"field": "label", "type": "nominal"}},
        },
    ]
    return Figure(
        name="best",
        title="The fastest recipe at each load",
        says=f"The recipe with the most {scales.per_gpu}, and how many, where several were measured: of those whose "
        "quality is shown to hold, where any was judged. A difference within the spread of trials is none.",
        dataset="cells",
        needs=("per_gpu", "batch", "context_tok"),
        spec=side_by_side(layers, data="cells", transform=transform, height={"step": 36}, free=("x", "y")),
        without="No cell has a rate at a batch and a context.",
    )


def speed(scales: Scales) -> Figure:
    """Speed-up over the reference by recipe and batch."""
    transform = [
        *first_panels("panel_at", ("ratio",)),
        {"calculate": "log(datum.ratio)", "as": "ln"},
        {"calculate": "isValid(datum.ratio_low) ? datum.ratio_low : datum.ratio", "as": "low"},
        {"calculate": "isValid(datum.ratio_high) ? datum.ratio_high : datum.ratio", "as": "high"},
        {
            "aggregate": [
                {"op": "mean", "field": "ln", "as": "ln"},
                {"op": "min", "field": "low", "as": "low"},
                {"op": "max", "field": "high", "as": "high"},
                {"op": "count", "as": "cells"},
                {"op": "sum", "field": "trials", "as": "trials"},
            ],
            "groupby": ["panel", "panel_at", "recipe", "at", "batch"],
        },
        {"calculate": "exp(datum.ln)", "as": "mean"},
    ]
    seen = tips(
        (("recipe", "recipe", ""), ("batch", "batch", ""), ("mean", "geometric mean", ".3~r")),
        (("low", "lowest", ".3~r"), ("high", "highest", ".3~r"), ("cells", "cells", ""), ("trials", "trials", "")),
    )
    shared = {
        "y": recipe_rows(),
        "yOffset": {"field": "batch", "type": "ordinal"},
        "color": batch_colour(scales),
        "tooltip": seen,
    }
    title = "speed-up (x reference)"
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "color": FAINT, "strokeDash": [3, 3]},
            "encoding": {"x": {"datum": 1, "type": "quantitative"}},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.55},
            "encoding": {"x": number("low", title, scale={"zero": False}), "x2": {"field": "high"}, **shared},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 40, "opacity": 1},
            "encoding": {"x": number("mean"), **shared},
        },
    ]
    return Figure(
        name="speed",
        title="Speed by recipe",
        says="Output tok/s over the reference's at the same load. Point: the geometric mean over contexts; line: from "
        "the slowest trial over the reference's fastest to the other way round.",
        dataset="cells",
        needs=("ratio",),
        spec=side_by_side(layers, data="cells", transform=transform, height={"step": OFFSET_STEP}, free=("y",)),
        without="The reference was not measured, so nothing can be compared with it.",
    )


def heat(scales: Scales) -> Figure:
    """Throughput over batch and context, for each recipe and place."""
    ends = [{"op": op, "field": "per_gpu", "as": name} for op, name in (("max", "most"), ("min", "least"))]
    transform = [
        *first_panels("panel_at", ("batch", "context_tok"), most=_HEAT_PANELS),
        {"joinaggregate": ends},
        {"calculate": "isValid(datum.per_gpu) ? format(datum.per_gpu, ',.3~r') : datum.outcome", "as": "label"},
        {
            "calculate": "isValid(datum.per_gpu) && "
            f"log(datum.per_gpu / datum.least) > {_DARK_FROM} * log(datum.most / datum.least)",
            "as": "dark",
        },
        {"calculate": f"truncate(datum.recipe, {_NAME}) + ' \u00b7 ' + format(datum.batch, ',')", "as": "line"},
        {"calculate": "datum.at * 1e9 - datum.batch", "as": "line_at"},
    ]
    x = _context()
    y = {"field": "line", "type": "nominal", "title": "recipe \u00b7 batch", "sort": first("line_at")}
    scale = {"type": "log", "scheme": "blues", "nice": False}
    colour = number("per_gpu", scales.per_gpu, scale=scale, legend={"gradientLength": 240, "format": "~s"})
    layers: list[Spec] = [
        {
            "mark": {"type": "rect", "stroke": "white"},
            "encoding": {
                "x": x,
                "y": y,
                "color": {"condition": {"test": "!isValid(datum.per_gpu)", "value": EMPTY}, **colour},
                "tooltip": tips(LOAD, _SPEED, (("outcome", "outcome", ""), ("reason", "reason", ""))),
            },
        },
        {
            "mark": {"type": "text", "fontSize": 10},
            "encoding": {
                "x": x,
                "y": y,
                "text": {"field": "label", "type": "nominal"},
                "color": {"condition": {"test": "datum.dark", "value": "white"}, "value": INK},
            },
        },
    ]
    return Figure(
        name="heat",
        title="Throughput by hardware, batch and context",
        says=f"{scales.per_gpu[0].upper()}{scales.per_gpu[1:]}, the median of the trials; dark is more. A word in "
        "place of a number says why there is none.",
        dataset="cells",
        needs=("batch", "context_tok"),
        spec=side_by_side(layers, data="cells", transform=transform, height={"step": 18}, free=("x", "y")),
        without="No cell has a batch and a context.",
        most_panels=_HEAT_PANELS,
    )


def _context() -> Spec:
    axis = {"labelAngle": 0, "format": ","}
    return {"field": "context_tok", "type": "ordinal", "title": "context, tokens", "axis": axis}
