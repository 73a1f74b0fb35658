"""The figures of a report as PNG, by the same specifications as its page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import vl_convert

from fleetbench.report.page.data import plain
from fleetbench.report.page.figures import drawn, figures, panels, scales_of
from fleetbench.report.page.gather import Gathered
from fleetbench.report.page.spec import CONFIG, VEGA_LITE, Figure, Spec, laid_out

_LINE = 130
"""Characters of a subtitle's line."""
_SCALE = 2.0


def pictures(gathered: Gathered) -> Iterator[tuple[str, bytes]]:
    """Name and PNG of each figure that has anything in it."""
    for figure in figures(scales_of(gathered.datasets["cells"], gathered.recipes)):
        if (spec := alone(figure, gathered)) is not None:
            yield (
                f"{figure.name}.png",
                vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=_SCALE, allowed_base_urls=[]),
            )


def alone(figure: Figure, gathered: Gathered) -> Spec | None:
    """The specification of one figure with its title and its rows; None where there is nothing to draw."""
    rows = drawn(figure, gathered.datasets)
    if not rows:
        return None
    count = panels(figure, rows)
    says = textwrap.wrap(figure.says, _LINE)
    if count > figure.most_panels:
        says.append(f"The first {figure.most_panels} of {count} panels: narrow the report to see others.")
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        **laid_out(figure, count),
        "title": {"text": figure.title, "subtitle": says},
        "config": CONFIG,
        "datasets": {figure.dataset: [{name: plain(value) for name, value in row.items()} for row in rows]},
    }
