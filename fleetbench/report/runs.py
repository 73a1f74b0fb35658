"""Which runs there are, and which one a user means."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from difflib import get_close_matches

import duckdb

from fleetbench.errors import InputError
from fleetbench.origin import OWN
from fleetbench.report.filters import ALL, Filters
from fleetbench.report.query import query
from fleetbench.report.result import Result

_RUNS = """
SELECT
    run_id, matrix, run, date_trunc('second', last_submitted_at) AS submitted, cells_planned AS cells, cells_ok AS ok,
    cells_failed AS failed, cells_invalid AS invalid, cells_refused AS refused, cells_cancelled AS cancelled,
    cells_lost AS lost, cells_missing AS missing
FROM coverage
ORDER BY last_submitted_at DESC, run_id
"""
_NAMED = 3
"""Names in a message at most."""
_WRONG = ("failed", "invalid", "refused", "cancelled", "lost", "missing")


def list_runs(connection: duckdb.DuckDBPyConnection) -> Result:
    """One row a run, the latest first."""
    return query(connection, _RUNS)


def brief(runs: Result) -> Result:
    """The same for a narrow page: a run's full name, times to the minute, only what went wrong anywhere."""
    wrong = [name for name in _WRONG if any(row[runs.columns.index(name)] for row in runs.rows)]
    rows = []
    for values in runs.rows:
        row = dict(zip(runs.columns, values, strict=True))
        submitted = row["submitted"]
        rows.append(
            (
                row["run_id"],
                f"{row['matrix']}/{row['run']}",
                f"{submitted:%Y-%m-%d %H:%M}" if isinstance(submitted, dt.datetime) else submitted,
                f"{row['ok']}/{row['cells']}",
                *(row[name] for name in wrong),
            )
        )
    columns = ("run_id", "run", "submitted", "ok", *wrong)
    labels = ("run_id", "run", "submitted (UTC)", "ok", *wrong)
    return Result(columns=columns, labels=labels, rows=tuple(rows))


def resolve(connection: duckdb.DuckDBPyConnection, wanted: Sequence[str], filters: Filters = ALL) -> tuple[str, ...]:
    """The run_ids that are meant: by id, by the start of an id, or by the run's or its matrix's name.

    None wanted means the run that was submitted last, of fleetbench's own if there is one, or all that were submitted
    in the time that the filters name.

    Raises:
        InputError: no such run, or several; every mistake at once.
    """
    known = connection.execute(
        "SELECT run_id, run, matrix, origin FROM runs ORDER BY last_submitted_at DESC, run_id"
    ).fetchall()
    if not known:
        raise InputError(("the warehouse has no runs yet: submit a matrix first",))
    if not wanted and (filters.since or filters.until):
        return _within(connection, filters)
    if not wanted:
        own = (run_id for run_id, _, _, origin in known if origin == OWN)
        return (next(own, known[0][0]),)
    names = [(run_id, run, matrix) for run_id, run, matrix, _ in known]
    found: list[str] = []
    mistakes: list[str] = []
    for name in wanted:
        meant = hits(name, names)
        if len(meant) == 1:
            found.append(meant[0])
        elif meant:
            more = f" and {len(meant) - _NAMED} more" if len(meant) > _NAMED else ""
            mistakes.append(f"{name} may be any of {', '.join(meant[:_NAMED])}{more}: give a run_id")
        else:
            mistakes.append(f"there is no run {name}{_near(name, names)}: `fleetbench runs` lists them")
    if mistakes:
        raise InputError(tuple(mistakes))
    return tuple(dict.fromkeys(found))


def _near(name: str, known: Sequence[tuple[str, str, str]]) -> str:
    there = {word for _, run, matrix in known for word in (run, matrix, f"{matrix}/{run}")}
    begun = sorted(word for word in there if name and word.startswith(name))
    near = begun[:_NAMED] or get_close_matches(name, there, n=2)
    return f", did you mean {' or '.join(near)}?" if near else ""


def _within(connection: duckdb.DuckDBPyConnection, filters: Filters) -> tuple[str, ...]:
    found = connection.execute(
        "SELECT run_id FROM (SELECT *, last_submitted_at AS submitted_at FROM runs) "  # noqa: S608 - escaped
        f"WHERE {filters.of_runs} ORDER BY submitted_at DESC, run_id"
    ).fetchall()
    if not found:
        raise InputError((f"{filters.said}: no run was submitted then (`fleetbench runs` lists them)",))
    return tuple(run_id for (run_id,) in found)


def hits(name: str, known: Sequence[tuple[str, str, str]]) -> list[str]:
    """The run_ids that a name may mean, among runs as run_id, run and matrix; an exact one before a start."""
    by = (
        [run_id for run_id, _, _ in known if run_id == name],
        [run_id for run_id, run, matrix in known if name in (run, matrix, f"{matrix}/{run}")],
        [run_id for run_id, _, _ in known if name and run_id.startswith(name)],
    )
    return next((found for found in by if found), [])
