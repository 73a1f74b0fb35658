"""What earlier runs tell: how long a trial of a cell takes, and what a run was measured with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fleetbench.store.connection import connect


def cell_seconds(root: Path) -> dict[str, float]:
    """Median wall seconds of a cell's good trials, by cell_id; empty where there is no warehouse."""
    if not root.is_dir():
        return {}
    with connect(root) as connection:
        rows = connection.execute(
            "SELECT cell_id, median(wall_s) FROM trials WHERE valid AND wall_s IS NOT NULL GROUP BY cell_id"
        ).fetchall()
    return dict(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredWith:
    """What the trials of a run were measured with.

    gpus: the most in one node, by hardware kind; absent: kinds of which there was no node when it was planned; engines:
    versions by name, the last ones.
    """

    gpus: dict[str, int] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    engines: dict[str, str] = field(default_factory=dict)


def measured_with(root: Path, run_id: str) -> MeasuredWith:
    """What a run was measured with; trials that never started tell nothing of it."""
    if not root.is_dir():
        return MeasuredWith()
    with connect(root) as connection:
        kinds = connection.execute(
            "SELECT hardware, max(coalesce(tp, 1)) FROM trials WHERE run_id = ? AND outcome <> 'cancelled' "
            "GROUP BY ALL",
            [run_id],
        ).fetchall()
        engines = connection.execute(
            "SELECT engine, arg_max(engine_version, started_at) FROM trials "
            "WHERE run_id = ? AND outcome <> 'cancelled' GROUP BY ALL",
            [run_id],
        ).fetchall()
        absent = connection.execute(
            "SELECT DISTINCT hardware FROM refusals WHERE run_id = ? AND rule = 'no-node'", [run_id]
        ).fetchall()
    gpus = dict(kinds)
    return MeasuredWith(gpus=gpus, absent=frozenset(name for (name,) in absent) - gpus.keys(), engines=dict(engines))
