"""What the figures of a report share: colours, axes, headings, and how panels stand beside each other. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]
Tip = tuple[str, str, str]
"""Of a tooltip: a column, its name and, for a number, its format."""

VEGA_LITE = "6.4"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a5195", "#8a7a00")
"""Told apart with any colour vision (after Okabe and Ito, Color Universal Design), each dark enough on white."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
OUTCOMES = {
    "ok": "#009e73",
    "invalid": "#e69f00",
    "failed": "#d55e00",
    "lost": "#cc79a7",
    "cancelled": "#7a5195",
    "refused": "#b4bac3",
}
INK, FAINT, LINE, GRID, EMPTY = "#1f2733", "#5c6673", "#aab2bd", "#e6e9ee", "#f1f2f4"
MOST_PANELS = 9
PANEL_HEIGHT, ROW_HEIGHT, OFFSET_STEP = 270, 24, 9
"""Of a panel of points, of a recipe's line, and of one batch in it."""

CONFIG: Spec = {
    "background": "white",
    "font": "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif",
    "view": {"stroke": LINE},
    "mark": {"invalid": "show"},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "gridColor": GRID,
        "tickColor": LINE,
        "domainColor": LINE,
        "labelLimit": 150,
        "labelOverlap": "greedy",
    },
    "header": {"labelFontSize": 12, "labelFontWeight": "bold", "labelColor": INK, "title": None, "labelLimit": 330},
    "legend": {
        "orient": "top",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "titleColor": FAINT,
        "labelLimit": 200,
        "columns": 8,
        "symbolOpacity": 1,
    },
    "title": {"anchor": "start", "fontSize": 16, "subtitleFontSize": 12, "subtitleColor": FAINT, "offset": 14},
    "facet": {"spacing": 24},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Pixels: of a sheet of paper, of the narrowest panel with its axis, of an axis alone, of a panel without it."""

    paper: int = 1120
    least_width: int = 300
    axis_width: int = 92
    least_panel: int = 120
    most_panel: int = 620
    most_columns: int = 3


LAYOUT = Layout()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """What the figures of a report share: recipes in order, batches ascending; cpu: nothing ran on a GPU."""

    recipes: Sequence[str]
    batches: Sequence[int]
    cpu: bool = False

    @property
    def per_gpu(self) -> str:
        return "output tok/s per machine" if self.cpu else "output tok/s per GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure.

    says: how to read it. needs: columns that a row must have, or it is not drawn. panels: the column that numbers its
    panels, of which the first `most_panels` are drawn. without: said where no row has what it needs.
    """

    name: str
    title: str
    says: str
    dataset: str
    needs: tuple[str, ...]
    spec: Spec
    without: str
    panels: str = "panel_at"
    most_panels: int = MOST_PANELS


ROOM: Spec = {"zero": False, "padding": 34}
"""Of a scale: space on both sides, for a label behind the last mark."""


def number(field: str, title: str | None = None, **more: Any) -> Spec:
    """A quantity on an axis; its title has the unit."""
    return {"field": field, "type": "quantitative", **({} if title is None else {"title": title}), **more}


def first(field: str) -> Spec:
    """Sorted by the least of a column."""
    return {"field": field, "op": "min", "order": "ascending"}


def recipe_rows() -> Spec:
    """A line of the figure for each recipe, in their order."""
    return {"field": "recipe", "type": "nominal", "title": None, "sort": first("at"), "axis": {"grid": True}}


def recipe_colour(scales: Scales) -> Spec:
    """One colour for a recipe, the same in every figure."""
    colours = [COLOURS[place % len(COLOURS)] for place in range(len(scales.recipes))]
    scale = {"domain": list(scales.recipes), "range": colours}
    return {"field": "recipe", "type": "nominal", "title": "recipe", "scale": scale}


def batch_colour(scales: Scales) -> Spec:
    """From light to dark, the more requests are in flight."""
    scale = {"domain": list(scales.batches), "scheme": {"name": "viridis", "extent": [0.85, 0.05]}}
    return {"field": "batch", "type": "ordinal", "title": "batch (requests in flight)", "scale": scale}


def tips(*groups: Sequence[Tip]) -> list[Spec]:
    return [
        {"field": field, "title": title} | ({"type": "quantitative", "format": form} if form else {"type": "nominal"})
        for group in groups
        for field, title, form in group
    ]


WHAT: tuple[Tip, ...] = (
    ("recipe", "recipe", ""),
    ("hardware", "hardware", ""),
    ("model", "model", ""),
    ("engine", "engine", ""),
    ("run", "run", ""),
)
LOAD: tuple[Tip, ...] = (
    *WHAT,
    ("batch", "batch", ""),
    ("rate", "requests/s", ""),
    ("context_tok", "tokens in", ""),
    ("output_tok", "tokens out", ""),
    ("trials", "trials", ""),
)


def heading(field: str, order: str) -> Spec:
    """A panel by its name, which may be of two lines."""
    header = {"title": None, "labelExpr": "split(datum.label, '\\n')"}
    return {"field": field, "type": "nominal", "sort": first(order), "header": header}


def first_panels(order: str, needs: Sequence[str] = (), *, most: int = MOST_PANELS) -> list[Spec]:
    """Rows that have what they need, of the first panels among them."""
    return [
        *({"filter": f"isValid(datum.{name})"} for name in needs),
        {"window": [{"op": "dense_rank", "as": "panel_rank"}], "sort": [{"field": order}]},
        {"filter": f"datum.panel_rank <= {most}"},
    ]


def side_by_side(
    layers: Sequence[Spec],
    *,
    data: str,
    transform: Sequence[Spec],
    height: int | Mapping[str, Any],
    panel: Spec | None = None,
    free: Sequence[str] = (),
) -> Spec:
    """Panels that share a row as `laid_out` says; free: axes that each has of its own."""
    return {
        "data": {"name": data},
        "transform": list(transform),
        "facet": panel or heading("panel", "panel_at"),
        "columns": LAYOUT.most_columns,
        "spec": {"width": LAYOUT.least_width, "height": height, "layer": list(layers)},
        "resolve": {"scale": dict.fromkeys(free, "independent"), "axis": {"x": "independent", "y": "independent"}},
    }


def laid_out(figure: Figure, panels: int, width: int | None = None) -> Spec:
    """The figure for that many panels on so many pixels. The page's script does the same."""
    room = LAYOUT.paper if width is None else width
    columns = max(1, min(panels, LAYOUT.most_columns, room // LAYOUT.least_width))
    inner = max(LAYOUT.least_panel, min(LAYOUT.most_panel, room // columns - LAYOUT.axis_width))
    return figure.spec | {"columns": columns, "spec": figure.spec["spec"] | {"width": inner}}
