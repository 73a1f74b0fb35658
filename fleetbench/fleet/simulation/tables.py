"""What a simulation came to, as sentences, tables and a JSON document."""

from __future__ import annotations

from typing import Any

from fleetbench.fleet.simulation.picture import span
from fleetbench.fleet.simulation.schedule import Bar, KindShare, NodeShare, Simulation
from fleetbench.plan.types import Plan
from fleetbench.report.cell import Form
from fleetbench.report.result import Panel, Result

NODES_SHOWN = 5


def brief(found: Simulation) -> str:
    """How long, how near to the best, for how much."""
    ratio = "" if found.ratio is None else f", {found.ratio:.3f} of the bound of {span(found.bound_s)}"
    usd, kinds = found.cost_usd, [kind for kind in found.kinds if kind.idle_usd is not None]
    idle = sum(kind.idle_usd or 0.0 for kind in kinds)
    cost = f"{usd:,.2f} USD, and {idle:,.2f} for what is idle" if kinds else "no price known"
    return f"{span(found.makespan_s)}{ratio}; {cost}"


def trials(found: Simulation) -> str:
    """How many trials, how they ended, and how often a launch was started again."""
    said = ", ".join(f"{count} {outcome.value.replace('_', ' ')}" for outcome, count in found.outcomes.most_common())
    launches = {bar.launch.launch_id for bar in found.bars}
    again = len(found.bars) - len(launches)
    return (
        f"{found.trials} trials of {found.cells} cells: {said}; {len(launches)} launches"
        + (f", started {again} times more" if again else "")
        + "."
    )


def panels(found: Simulation) -> list[Panel]:
    """The kinds, and the nodes that are least busy."""
    worst = sorted(found.node_shares, key=lambda one: one.busy or 0.0)[:NODES_SHOWN]
    failed = any(one.failed for one in found.node_shares)
    left = len(found.nodes) - len(worst)
    return [
        Panel(
            name="kinds",
            title="By kind (nodes x GPUs; ratio: to the bound)",
            result=_kinds(found.kinds),
            keys=1,
        ),
        Panel(
            name="nodes",
            title=f"The {len(worst)} nodes that are least busy, of {len(found.nodes)}" if left else "By node",
            result=_nodes(worst),
            keys=1,
            hidden=() if failed else ("failed",),
        ),
    ]


def _kinds(kinds: tuple[KindShare, ...]) -> Result:
    more = any(kind.tries > kind.launches for kind in kinds)
    usd = Form(decimals=2, whole_from=100, grouped=True)
    forms = {"busy %": Form(decimals=1), "ratio": Form(decimals=3), "USD": usd, "idle USD": usd}
    rows = [
        {
            "kind": kind.hardware,
            "nodes": f"{kind.nodes} x {kind.gpus // kind.nodes}",
            "launches": kind.launches,
            **({"starts": kind.tries} if more else {}),
            "busy %": _pct(kind.busy),
            "done": span(kind.makespan_s),
            "ratio": kind.ratio,
            "USD": kind.cost_usd,
            "idle USD": kind.idle_usd,
        }
        for kind in kinds
    ]
    return Result(
        columns=tuple(rows[0]),
        rows=tuple(tuple(row.values()) for row in rows),
        forms=tuple(forms.get(name) for name in rows[0]),
    )


def _nodes(nodes: list[NodeShare]) -> Result:
    columns = ("node", "GPUs", "use", "busy %", "starts", "failed", "last end")
    rows = tuple(
        (one.node.name, one.node.gpus, one.node.use, _pct(one.busy), one.tries, one.failed, span(one.last_s))
        for one in nodes
    )
    return Result(columns=columns, rows=rows, forms=(None, None, None, Form(decimals=1), None, None, None))


def _pct(share: float | None) -> float | None:
    return None if share is None else 100 * share


def schedule(found: Simulation) -> Result:
    """Who ran where from when to when, and how it ended: a row for each start of a launch."""
    rows = [_row(bar) for bar in found.bars]
    columns = tuple(rows[0]) if rows else ("launch_id",)
    return Result(columns=columns, rows=tuple(tuple(row.values()) for row in rows))


def _row(bar: Bar) -> dict[str, object]:
    launch = bar.launch
    return {
        "launch_id": launch.launch_id,
        "attempt": bar.attempt,
        "model": launch.model.name,
        "recipe": launch.recipe.name,
        "engine": launch.engine.name,
        "role": launch.role,
        "hardware": launch.hardware,
        "nodes": list(bar.nodes),
        "gpus": [list(gpus) for gpus in bar.gpus],
        "start_s": round(bar.start_s, 3),
        "end_s": round(bar.end_s, 3),
        "trials": bar.trials,
        "outcome": bar.outcome.value,
        "reason": bar.reason,
    }


def document(plan: Plan, found: Simulation, unused: list[str]) -> dict[str, Any]:
    """All of it but the CPU time, which is no two times the same."""
    return {
        "matrix": plan.matrix.name,
        "makespan_s": found.makespan_s,
        "bound_s": found.bound_s,
        "ratio": found.ratio,
        "cost_usd": found.cost_usd if found.price_usd_h else None,
        "cells": found.cells,
        "trials": found.trials,
        "tries": found.tries,
        "outcomes": {outcome.value: count for outcome, count in found.outcomes.most_common()},
        "refused_cells": len(plan.refusals),
        "kinds_without_work": unused,
        "kinds": [
            {
                "hardware": kind.hardware, "nodes": kind.nodes, "gpus": kind.gpus, "launches": kind.launches,
                "starts": kind.tries, "busy": kind.busy, "makespan_s": kind.makespan_s, "bound_s": kind.bound_s,
                "ratio": kind.ratio, "cost_usd": kind.cost_usd, "idle_usd": kind.idle_usd,
            }
            for kind in found.kinds
        ],
        "nodes": [
            {
                "node": one.node.name, "hardware": one.node.hardware, "gpus": one.node.gpus, "use": one.node.use,
                "busy": one.busy, "starts": one.tries, "failed": one.failed, "last_end_s": one.last_s,
            }
            for one in found.node_shares
        ],
        "schedule": [_row(bar) for bar in found.bars],
    }  # fmt: skip
