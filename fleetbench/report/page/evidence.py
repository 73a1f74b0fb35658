"""What a report's numbers rest on: what was asked, what failed and why, and where everything comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from fleetbench.report.query import query
from fleetbench.report.result import Row

MOST_GROUPS = 300
"""Rows of a table of reasons or arguments; a fleet that fails in one way has few."""
_TAIL = 1_500
"""Characters of an engine's log that go with a failure, its end."""

_COVERAGE = """
SELECT
    r.matrix || '/' || r.run AS run, k.hardware, k.engine, k.engine_version, k.model, k.random_weights,
    k.tp, k.pp, k.dp, k.recipe, k.kind,
    CASE WHEN k.outcome = 'not_applied' THEN 'invalid'
        WHEN k.outcome IN ('ok', 'invalid', 'refused', 'cancelled', 'lost') THEN k.outcome ELSE 'failed' END AS outcome,
    count(*) AS cells
FROM chosen AS k
INNER JOIN runs AS r USING (run_id)
GROUP BY ALL
ORDER BY run, hardware, recipe, outcome
"""
_FAILURES = """
WITH attempted AS (
    SELECT
        f.run_id, f.what, f.outcome, split_part(trim(coalesce(f.reason, 'no reason is known')), chr(10), 1) AS reason,
        coalesce(a.hardware, l.hardware) AS hardware, coalesce(a.engine, l.engine) AS engine,
        coalesce(a.engine_version, l.engine_version) AS engine_version, f.model, f.recipe,
        coalesce(a.random_weights, l.random_weights) AS random_weights, coalesce(a.tp, l.tp) AS tp,
        coalesce(a.pp, l.pp) AS pp, coalesce(a.dp, l.dp) AS dp,
        f.superseded, f.node, f.log_tail, f.started_at
    FROM failures AS f
    LEFT JOIN attempts AS a
        ON f.what = 'trial' AND f.run_id = a.run_id AND f.id = a.trial_id AND f.attempt = a.attempt
    LEFT JOIN launches AS l
        ON f.what = 'launch' AND f.run_id = l.run_id AND f.id = l.launch_id AND f.attempt = l.attempt
        AND f.started_at = l.started_at
    WHERE f.run_id IN (SELECT unnest($runs))
)

SELECT
    r.matrix || '/' || r.run AS run, f.hardware, f.engine, f.engine_version, f.model, f.random_weights, f.tp, f.pp,
    f.dp, f.recipe, f.what, f.outcome, f.reason,
    count(*) AS times, count(*) FILTER (f.superseded) AS superseded,
    list_sort(list_distinct(list(f.node))) AS nodes, arg_max(f.log_tail, f.started_at) AS log
FROM attempted AS f
INNER JOIN runs AS r USING (run_id)
SEMI JOIN chosen AS k
    ON f.run_id = k.run_id AND f.hardware = k.hardware AND f.engine = k.engine AND f.recipe = k.recipe
GROUP BY ALL
ORDER BY times DESC, run, hardware, engine, model, recipe, what, outcome, reason
"""
_REFUSALS = """
SELECT
    r.matrix || '/' || r.run AS run, f.hardware, f.engine, f.engine_version, f.model, f.random_weights, f.tp, f.pp,
    f.dp, f.recipe, f.verdict, f.sentence AS reason, f.source,
    count(*) AS cells
FROM refusals AS f
INNER JOIN runs AS r USING (run_id)
SEMI JOIN chosen AS k ON f.run_id = k.run_id AND f.cell_id = k.cell_id
GROUP BY ALL
ORDER BY cells DESC, run, hardware, engine, model, recipe, reason
"""
_RUNS = """
SELECT
    r.matrix || '/' || r.run AS run, r.run_id, r.analysis AS question, r.reference, r.matrix_json, r.last_submitted_at,
    r.submissions, r.fleetbench_version, r.origin, r.source, r.source_sha256, r.licence, r.unmapped,
    c.cells_planned, c.cells_ok, c.cells_failed, c.cells_invalid, c.cells_refused, c.cells_cancelled, c.cells_lost,
    c.cells_missing, c.trials_planned, c.trials_ok
FROM runs AS r
LEFT JOIN coverage AS c USING (run_id)
WHERE r.run_id IN (SELECT unnest($runs))
ORDER BY list_position($runs, r.run_id)
"""
_NODES = """
SELECT
    r.matrix || '/' || r.run AS run, l.node, l.hardware, h.name, list_sort(list_distinct(list(h.value))) AS values
FROM host AS h
INNER JOIN (SELECT DISTINCT run_id, launch_id, attempt, node, hardware, engine, recipe FROM launches) AS l
    USING (run_id, launch_id, attempt)
INNER JOIN runs AS r USING (run_id)
SEMI JOIN chosen AS k
    ON l.run_id = k.run_id AND l.hardware = k.hardware AND l.engine = k.engine AND l.recipe = k.recipe
WHERE h.value IS NOT NULL
GROUP BY ALL
ORDER BY list_position($runs, any_value(r.run_id)), l.hardware, l.node, h.name
"""
_ENGINES = """
SELECT
    r.matrix || '/' || r.run AS run, l.hardware, l.engine, l.engine_version, l.model, l.random_weights, l.tp, l.pp,
    l.dp, l.recipe, l.requested,
    list_sort(list_distinct(flatten(list(l.differences)))) AS differences, count(*) AS starts,
    median(l.ready_s) AS ready_s
FROM launches AS l
INNER JOIN runs AS r USING (run_id)
SEMI JOIN chosen AS k
    ON l.run_id = k.run_id AND l.hardware = k.hardware AND l.engine = k.engine AND l.recipe = k.recipe
GROUP BY ALL
ORDER BY list_position($runs, any_value(r.run_id)), l.hardware, l.engine, l.model, l.recipe
"""
_PRICES = """
SELECT DISTINCT hardware, usd_per_hour, price_date, price_source, no_cost
FROM cost_per_mtok SEMI JOIN chosen USING (run_id, cell_id)
ORDER BY ALL
"""
_WITHIN_SLO = """
SELECT r.matrix || '/' || r.run AS run, f.*
FROM frontier_by_slo AS f
INNER JOIN runs AS r USING (run_id)
SEMI JOIN chosen AS k
    ON f.run_id = k.run_id AND f.hardware = k.hardware AND f.engine = k.engine AND f.recipe = k.recipe
ORDER BY list_position($runs, f.run_id), f.model, f.hardware, f.engine, f.context_tok, f.output_tok,
    f.tok_s_per_gpu DESC NULLS LAST, f.recipe
"""
_QUARANTINED = "SELECT table_name, count(*) AS files, min(reason) AS reason FROM quarantined GROUP BY ALL ORDER BY ALL"

Runs = Mapping[str, Sequence[str]]


def coverage(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Cells of the table `chosen` by outcome, run, place and recipe."""
    return _rows(connection, _COVERAGE)


def failures(connection: duckdb.DuckDBPyConnection, runs: Runs) -> list[Row]:
    """Attempts that did not end well, counted by reason, with the end of the last one's log."""
    rows = _rows(connection, _FAILURES, runs)
    for row in rows:
        row["log"] = str(row["log"])[-_TAIL:] if row["log"] else None
    return rows


def refusals(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Cells of the table `chosen` that planning refused, counted by reason."""
    return _rows(connection, _REFUSALS)


def runs_of(connection: duckdb.DuckDBPyConnection, runs: Runs) -> list[Row]:
    """The runs, with their coverage and where they come from."""
    return _rows(connection, _RUNS, runs)


def nodes(connection: duckdb.DuckDBPyConnection, runs: Runs) -> list[Row]:
    """A row for each node of a run: its facts in one text, those that changed with all their values."""
    by: dict[tuple[object, ...], list[str]] = {}
    for row in _rows(connection, _NODES, runs):
        values = row["values"] if isinstance(row["values"], list) else []
        by.setdefault((row["run"], row["node"], row["hardware"]), []).append(f"{row['name']}: {' | '.join(values)}")
    return [
        {"run": run, "node": node, "hardware": hardware, "facts": "\n".join(facts)}
        for (run, node, hardware), facts in by.items()
    ]


def engines(connection: duckdb.DuckDBPyConnection, runs: Runs) -> list[Row]:
    """How engines were started: their arguments, and what they did not apply."""
    return _rows(connection, _ENGINES, runs)


def prices(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """What an hour of each kind of hardware costs, by whose word; or that nobody says."""
    return _rows(connection, _PRICES)


def within_slo(connection: duckdb.DuckDBPyConnection, runs: Runs) -> list[Row]:
    """By place and load, each recipe's best cell within the latencies that were asked for; the best recipe first."""
    return _rows(connection, _WITHIN_SLO, runs)


def quarantined(connection: duckdb.DuckDBPyConnection) -> list[Row]:
    """Files of the whole warehouse that are counted nowhere, by table."""
    return _rows(connection, _QUARANTINED)


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, runs: Runs | None = None) -> list[Row]:
    found = query(connection, sql, runs)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]
