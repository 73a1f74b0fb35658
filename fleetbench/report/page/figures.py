"""All figures of a report, in the order of its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleetbench.report.page import latency_figures, parity_figures, quality_figures, speed_figures
from fleetbench.report.page.spec import Figure, Scales
from fleetbench.report.result import Row


def scales_of(cells: Sequence[Row], recipes: Sequence[str]) -> Scales:
    """What the figures share, by the cells that they are over."""
    batches = {row["batch"] for row in cells}
    gpus = [row["gpus"] for row in cells if row["gpus"] is not None]
    return Scales(
        recipes=tuple(recipes),
        batches=sorted(batch for batch in batches if isinstance(batch, int)),
        cpu=bool(gpus) and not any(gpus),
    )


def figures(scales: Scales) -> list[Figure]:
    """Every figure, whether or not there is anything to draw in it."""
    return [
        speed_figures.pareto(scales),
        speed_figures.best(scales),
        speed_figures.speed(scales),
        quality_figures.trade(scales),
        parity_figures.parity(),
        quality_figures.accuracy(scales),
        quality_figures.divergence(scales),
        speed_figures.heat(scales),
        latency_figures.ttft(scales),
        latency_figures.itl(scales),
        latency_figures.energy(scales),
        latency_figures.cost(scales),
        quality_figures.coverage(),
    ]


def drawn(figure: Figure, datasets: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The rows that a figure has marks for, if all of its panels were drawn."""
    return [row for row in datasets[figure.dataset] if all(row.get(name) is not None for name in figure.needs)]


def panels(figure: Figure, rows: Sequence[Row]) -> int:
    """How many panels these rows of it would be."""
    return len({row[figure.panels] for row in rows})
