"""What earlier runs tell of a cell: how long a trial of it takes."""

from __future__ import annotations

from pathlib import Path

from fleetbench.store.views import connect


def cell_seconds(root: Path) -> dict[str, float]:
    """Median wall seconds of a cell's good trials, by cell_id; empty where there is no warehouse."""
    if not root.is_dir():
        return {}
    with connect(root) as connection:
        rows = connection.execute(
            "SELECT cell_id, median(wall_s) FROM trials WHERE valid AND wall_s IS NOT NULL GROUP BY cell_id"
        ).fetchall()
    return dict(rows)
