"""The last table: speed, size and quality of each recipe in one line."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import duckdb

from fleetbench.origin import NO_REFERENCE
from fleetbench.report.columns import SHORT_VERDICT, columns, tabulated
from fleetbench.report.quality import wilson_pct
from fleetbench.report.query import query
from fleetbench.report.result import Panel, Row, titled
from fleetbench.report.speed import missing_reference, model_name

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
    count(*) FILTER (trials > 0 AND coalesce(batch = least_batch, TRUE)) AS trials,
    max(least_batch) AS least_batch, max(least_rate_per_s) AS least_rate_per_s
FROM least
GROUP BY ALL
"""
_QUALITY = f"""
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
    k.quality_verdict, {SHORT_VERDICT} AS verdict,
    kl.kl_mean_nat, kl.kl_se_nat, kl.positions, a.items, a.correct
FROM chosen AS k
LEFT JOIN sizes AS s ON k.run_id = s.run_id AND k.artifact_id = s.artifact_id
LEFT JOIN answers AS a ON k.run_id = a.run_id AND k.cell_id = a.cell_id
LEFT JOIN kl ON k.run_id = kl.run_id AND k.cell_id = kl.cell_id
WHERE k.kind = 'quality' AND NOT k.random_weights
"""  # noqa: S608 - our own text
_RUNS = "SELECT run_id, matrix || '/' || run AS run, reference FROM runs"
_SPEED_COLUMNS = ("speedup_geomean_ratio", "speedup_lowest_ratio", "speedup_highest_ratio", "speedup_cells")
_QUALITY_COLUMNS = ("kl_mean_nat", "accuracy_pct", "half_width_pct", "items", "verdict")
_PROGRAMS = (
    "positions",
    "quality_verdict",
    "kl_se_nat",
    "low_pct",
    "high_pct",
    "speed_model",
    "random_weights",
    "quality_model",
    "suite",
    "engine_version",
)
_COLUMNS = columns(
    *("run", "recipe", "kv", "artifact_mb", *_SPEED_COLUMNS, *_QUALITY_COLUMNS, *_PROGRAMS),
    kl_se_nat="KL +-",
)
_PLACE = ("engine", "engine_version", "hardware", "reference_name")

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
        if good or place[-1] != NO_REFERENCE
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
    missing = (*(() if speed else _SPEED_COLUMNS), *(() if quality else _QUALITY_COLUMNS))
    if not any(row["verdict"] for row in rows):
        missing = (*missing, "verdict")
    title, notes = titled("At a glance", row=head)
    return Panel(
        name="glance",
        title=title,
        result=tabulated(rows, _COLUMNS),
        keys=3 - len(same),
        hidden=(*same, *missing, *_PROGRAMS),
        notes=(*notes, *_notes(speed, quality, str(head["reference_name"]))),
        programs=not any(row["trials"] for row in speed.values())
        and not any(row["items"] or row["positions"] for row in quality.values()),
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
    row: Row = {name: (fast or good).get(name, good.get(name)) for name in (column.name for column in _COLUMNS)}
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
        if why := missing_reference([row for row in speed.values() if row["trials"]], "speedup_geomean_ratio"):
            yield why
    if good:
        yield f"KL: from {reference}, nats. +-: half of the Wilson 95 % interval."
        if good["quality_verdict"]:
            yield "verdict: of the parity gate (fleetbench parity); open: not decided."


def _load(row: Row) -> str:
    if row["least_batch"] is not None:
        return f"batch {row['least_batch']}"
    return "nothing measured" if row["least_rate_per_s"] is None else f"{row['least_rate_per_s']:g} requests/s"
