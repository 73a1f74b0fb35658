"""A simulated schedule as a chart: nodes by kind, launches coloured by recipe."""

from __future__ import annotations

from collections.abc import Iterator

from fleetbench.fleet.simulation.schedule import Bar, KindShare, Simulation
from fleetbench.matrix.types import Outcome
from fleetbench.report import gantt


def chart(simulation: Simulation, *, title: str, subtitle: str) -> gantt.Chart:
    """Every try of a launch on each of its nodes; GPUs of a shared node one below the other."""
    rows = [
        gantt.Row(name=node.name, group=node.hardware, lanes=max(1, node.gpus) if node.use == "shared" else 1)
        for node in simulation.nodes
    ]
    divided = {row.name for row in rows if row.lanes > 1}
    return gantt.Chart(
        title=title,
        subtitle=subtitle,
        rows=rows,
        bars=[bar for one in simulation.bars for bar in _bars(one, divided)],
        captions={kind.hardware: _caption(kind) for kind in simulation.kinds},
    )


def span(seconds: float) -> str:
    """A length of time for people: 45.0 s, 12:30 min, 3:05 h."""
    whole = round(seconds)
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    if whole < 3600:  # noqa: PLR2004 - an hour
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def _bars(one: Bar, divided: set[str]) -> Iterator[gantt.Bar]:
    for node, gpus in zip(one.nodes, one.gpus, strict=True):
        yield gantt.Bar(
            row=node,
            lanes=gpus if node in divided else (0,),
            start_s=one.start_s,
            end_s=one.end_s,
            colour=one.launch.recipe.name,
            label=one.launch.label,
            title=_title(one, node, gpus),
            failed=None if one.outcome is Outcome.OK else one.outcome.value.replace("_", " "),
        )


def _title(one: Bar, node: str, gpus: tuple[int, ...]) -> str:
    launch = one.launch
    again = f", start {one.attempt + 1}" if one.attempt else ""
    where = f"{node}, {len(gpus)} GPU{'s' if len(gpus) > 1 else ''}" + (" of each" if len(one.nodes) > 1 else "")
    ended = one.outcome.value.replace("_", " ") + (f" ({one.reason})" if one.reason else "")
    return (
        f"{launch.label}, {launch.engine.name}{again} on {where}: {span(one.start_s)} to {span(one.end_s)} "
        f"({span(one.seconds)}), {one.trials} trials, {ended}"
    )


def _caption(kind: KindShare) -> str:
    gpus = f" with {kind.gpus} GPUs" if kind.gpus else ""
    if kind.busy is None or kind.ratio is None:
        return f"{kind.nodes} nodes{gpus}, nothing ran"
    return (
        f"{kind.nodes} nodes{gpus}, {kind.launches} launches, {100 * kind.busy:.1f} % busy, done after "
        f"{span(kind.makespan_s)}, {kind.ratio:.2f} of the bound"
    )
