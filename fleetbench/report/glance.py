"""The last table: speed, size and quality of each recipe in one line."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import duckdb

from fleetbench.report.quality import wilson_pct
from fleetbench.report.query import query
from fleetbench.report.result import Panel, Result, titled
from fleetbench.report.speed import model_name

_SPEED = """
WITH sizes AS (
    SELECT run_id, artifact_id, max(artifact_bytes) AS artifact_bytes FROM launches GROUP BY ALL
),

loads AS (
    SELECT
        c.*, k.place, s.artifact_bytes,
        min(c.batch) FILTER (c.trials > 0) OVER same AS least_batch,
        min(c.rate_per_s) FILTER (c.trials > 0 AND c.batch IS NULL) OVER same AS least_rate_per_s
    FROM cmp_recipe AS c
    INNER JOIN chosen AS k USING (run_id, cell_id)
    LEFT JOIN sizes AS s ON c.run_id = s.run_id AND c.artifact_id = s.artifact_id
    WINDOW same AS (
        PARTITION BY c.engine, c.engine_version, c.hardware, c.model, c.random_weights, c.tp, c.pp, c.dp
    )
),

least AS (
    SELECT *, CASE WHEN coalesce(batch = least_batch, least_batch IS NULL AND rate_per_s = least_rate_per_s, FALSE)
        THEN nullif(speedup_ratio, 0) END AS ratio
    FROM loads
)

SELECT
    run_id, engine, engine_version, hardware, model, random_weights, tp, pp, dp, recipe, kv,
    bool_or(reference) AS reference, min(place) AS place, max(artifact_bytes) / 1e6 AS artifact_mb,
    exp(avg(ln(ratio))) AS speedup_geomean_ratio, min(ratio) AS speedup_lowest_ratio,
    max(ratio) AS speedup_highest_ratio, count(ratio) AS speedup_cells,
    max(least_batch) AS least_batch, max(least_rate_per_s) AS least_rate_per_s
FROM least
GROUP BY ALL
"""
_QUALITY = """
WITH sizes AS (
    SELECT run_id, artifact_id, max(artifact_bytes) AS artifact_bytes FROM launches GROUP BY ALL
),

answers AS (
    SELECT run_id, cell_id, CAST(sum(n) AS BIGINT) AS items, CAST(sum(correct) AS BIGINT) AS correct
    FROM quality
    GROUP BY ALL
)

SELECT
    k.run_id, k.engine, k.engine_version, k.hardware, k.model, k.random_weights, k.tp, k.pp, k.dp, k.suite,
    k.recipe, k.kv, k.reference, k.place, s.artifact_bytes / 1e6 AS artifact_mb,
    kl.kl_mean_nat, kl.kl_se_nat, kl.positions, a.items, a.correct
FROM chosen AS k
LEFT JOIN sizes AS s ON k.run_id = s.run_id AND k.artifact_id = s.artifact_id
LEFT JOIN answers AS a ON k.run_id = a.run_id AND k.cell_id = a.cell_id
LEFT JOIN kl ON k.run_id = kl.run_id AND k.cell_id = kl.cell_id
WHERE k.kind = 'quality' AND NOT k.random_weights
"""
_RUNS = "SELECT run_id, matrix || '/' || run AS run, reference FROM runs"
_COLUMNS = (
    ("run", "run"),
    ("recipe", "recipe"),
    ("kv", "KV"),
    ("artifact_mb", "MB"),
    ("speedup_geomean_ratio", "x ref"),
    ("speedup_lowest_ratio", "low"),
    ("speedup_highest_ratio", "high"),
    ("speedup_cells", "cells"),
    ("kl_mean_nat", "KL"),
    ("positions", "pos."),
    ("accuracy_pct", "right %"),
    ("half_width_pct", "+-"),
    ("items", "items"),
    ("kl_se_nat", "KL +-"),
    ("low_pct", "low"),
    ("high_pct", "high"),
    ("speed_model", "speed of"),
    ("random_weights", "random weights"),
    ("quality_model", "quality of"),
    ("suite", "suite"),
    ("engine_version", "version"),
)
_SPEED_COLUMNS = _COLUMNS[4:8]
_QUALITY_COLUMNS = _COLUMNS[8:13]
_PROGRAMS = tuple(name for name, _ in _COLUMNS[13:])
_PLACE = ("engine", "engine_version", "hardware", "reference_name")

Row = dict[str, object]
Side = dict[tuple[object, ...], Row]
"""What one model came to, by run, recipe and KV format."""


def glance_panels(connection: duckdb.DuckDBPyConnection, runs: dict[str, list[str]]) -> list[Panel]:
    """One panel for each pair of a model that gives speed and one that gives quality, on one engine and place.

    A model that gives both is its own pair; the others of a place are combined. Without one side its
    columns are left out.
    """
    known = {run_id: (run, reference) for run_id, run, reference in query(connection, _RUNS).rows}
    found: list[dict[tuple[object, ...], dict[tuple[str, ...], Side]]] = []
    for sql in (_SPEED, _QUALITY):
        result = query(connection, sql)
        places: dict[tuple[object, ...], dict[tuple[str, ...], Side]] = {}
        for values in result.rows:
            row = dict(zip(result.columns, values, strict=True))
            row["run"], row["reference_name"] = known[row["run_id"]]
            name = (model_name(row), str(row["suite"])) if "suite" in row else (model_name(row),)
            side = places.setdefault(tuple(row[part] for part in _PLACE), {}).setdefault(name, {})
            side[row["run_id"], row["recipe"], row["kv"]] = row
        found.append(places)
    speed, quality = found
    return [
        _panel(speed.get(place, {}).get(fast, {}), quality.get(place, {}).get(good, {}), runs["runs"])
        for place in sorted({*speed, *quality}, key=str)
        for fast, good in _pairs(sorted(speed.get(place, {})), sorted(quality.get(place, {})))
    ]


def _pairs(fast: list[tuple[str, ...]], good: list[tuple[str, ...]]) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Models with themselves where they give both, then every other one of either side with every one."""
    both = {name[:1] for name in good} & set(fast)
    yield from ((name[:1], name) for name in good if name[:1] in both)
    rest = [name for name in fast if name not in both], [name for name in good if name[:1] not in both]
    if any(rest):
        yield from itertools.product(rest[0] or [()], rest[1] or [()])


def _panel(speed: Side, quality: Side, runs: list[str]) -> Panel:
    heads = {**quality, **speed}
    keys = sorted(heads, key=lambda key: _order(heads[key], runs))
    rows = [
        _row(speed.get(key, {}), quality.get(key, {}))
        | {"artifact_mb": (speed or quality).get(key, {}).get("artifact_mb")}
        for key in keys
    ]
    head = heads[keys[0]]
    same = {name for name in ("run", "kv") if len({row[name] for row in rows}) == 1}
    missing = {name for name, _ in _SPEED_COLUMNS if not speed} | {name for name, _ in _QUALITY_COLUMNS if not quality}
    engine, version, hardware = (str(head[name]) for name in ("engine", "engine_version", "hardware"))
    title, notes = titled("At a glance", engine=engine, version=version, hardware=hardware)
    return Panel(
        title=title,
        result=Result(
            columns=tuple(name for name, _ in _COLUMNS),
            labels=tuple(label for _, label in _COLUMNS),
            rows=tuple(tuple(row[name] for name, _ in _COLUMNS) for row in rows),
        ),
        keys=3 - len(same),
        hidden=(*same, *missing, *_PROGRAMS),
        notes=(*notes, *_notes(speed, quality, str(head["reference_name"]))),
    )


def _order(row: Row, runs: list[str]) -> tuple[object, ...]:
    place = row["place"]
    return (
        not row["reference"],
        place if isinstance(place, int) else math.inf,
        str(row["recipe"]),
        str(row["kv"]),
        runs.index(str(row["run_id"])),
    )


def _row(fast: Row, good: Row) -> Row:
    items, correct = good.get("items"), good.get("correct")
    row: Row = {name: (fast or good).get(name, good.get(name)) for name, _ in _COLUMNS}
    row["random_weights"] = fast.get("random_weights")
    row["speed_model"], row["quality_model"] = (model_name(side) if side else None for side in (fast, good))
    if isinstance(items, int) and isinstance(correct, int) and (interval := wilson_pct(correct, items)):
        row["accuracy_pct"] = 100 * correct / items
        row["low_pct"], row["high_pct"] = interval
        row["half_width_pct"] = (interval[1] - interval[0]) / 2
    return row


def _notes(speed: Side, quality: Side, reference: str) -> Iterator[str]:
    fast, good = next(iter(speed.values()), None), next(iter(quality.values()), None)
    if fast:
        yield f"Speed (x ref) and MB: {model_name(fast)}, {_load(fast)}."
    if good:
        yield f"Quality (KL, right %){'' if fast else ' and MB'}: {model_name(good)}, {good['suite']}."
    if fast:
        yield f"x ref: geometric mean of tok/s over {reference}'s; low, high: lowest and highest cell."
    if good:
        yield f"KL: from {reference}, nats; pos.: its positions. +-: half of the Wilson 95 % interval."


def _load(row: Row) -> str:
    if row["least_batch"] is not None:
        return f"batch {row['least_batch']}"
    return "nothing measured" if row["least_rate_per_s"] is None else f"{row['least_rate_per_s']:g} requests/s"
