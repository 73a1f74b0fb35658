"""Distributions of times with a unit: what the summaries of several tools have in common."""

from __future__ import annotations

from collections.abc import Mapping

from fleetbench.store.foreign.document import Node
from fleetbench.store.foreign.record import Figure, ForeignError, Said

_MS = {
    **dict.fromkeys(("ns", "nanoseconds"), 1e-6),
    **dict.fromkeys(("us", "µs", "microseconds"), 1e-3),
    **dict.fromkeys(("ms", "milliseconds"), 1.0),
    **dict.fromkeys(("s", "sec", "seconds"), 1e3),
}
_PER_TOKEN = ("/token", "/tok")
Stats = Mapping[str, str]
"""The tool's names of statistics, by ours: mean, p50, p90, p99."""


def time_factor(unit: Node) -> float:
    """What a time in the unit that the file states has to be multiplied with to be in ms."""
    word = unit.required().text() or ""
    for ending in _PER_TOKEN:
        word = word.removesuffix(ending)
    factor = _MS.get(word)
    if factor is None:
        raise unit.fail(f"{word[:40]!r} is no unit of time that is known ({', '.join(sorted(_MS))})")
    return factor


def check_unit(unit: Node, known: tuple[str, ...]) -> None:
    """Raises ForeignError where the file states another unit than those that its format has for it."""
    word = unit.required().text()
    if word not in known:
        raise unit.fail(f"{str(word)[:40]!r}, where {' or '.join(known)} should be")


def columns(values: Node, stats: Stats, *, name: str, factor: float) -> dict[str, Figure]:
    """The statistics of a distribution as columns of `trials`; empty where there is none."""
    if values.value is None:
        return {}
    return {f"{name}_{ours}_ms": values.get(theirs).positive(factor) for ours, theirs in stats.items()}


def kept_beside(values: Node, stats: Stats, *, name: str, factor: float) -> dict[str, Said]:
    """The same in ms under the tool's own name: a figure that its definition keeps apart from ours."""
    if values.value is None:
        return {}
    return {f"{name}_{ours}_ms": values.get(theirs).positive(factor) for ours, theirs in stats.items()}


def failure(figures: Mapping[str, Figure]) -> str | None:
    """Why the figures are not to be compared: requests failed, or none was answered."""
    completed, failed, asked = (figures.get(f"{name}_requests") for name in ("completed", "failed", "asked"))
    if completed == 0:
        return "no request was answered"
    return f"{failed} of {asked or 'all'} requests failed" if failed else None


def check_measured(where: str, figures: Mapping[str, Figure]) -> None:
    """Raises ForeignError for a record that measured nothing and does not say that it failed."""
    failed = failure(figures) is not None
    besides = ("_requests", "_n", "window_s", "concurrency")
    if not failed and not any(value for name, value in figures.items() if not name.endswith(besides)):
        raise ForeignError(where, "it has no figure that a column holds: no latency and no throughput")
