"""One trial on a running engine: collectors around the load, a verdict on validity, one atomic commit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import feather

from fleetbench.engine.protocol import EngineUnreachableError, Session
from fleetbench.fleet.launch.ask import Spec, canary_spec, trial_spec
from fleetbench.fleet.launch.courier import Keeper
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.fleet.rows import trial_row
from fleetbench.judge.validity import Speed, Validity, judge
from fleetbench.matrix.types import LoadPoint, Outcome
from fleetbench.plan.events import TrialEnded
from fleetbench.plan.roofline import Roof, cell_floors, cell_roof
from fleetbench.plan.types import Trial
from fleetbench.store.schema import SCHEMAS, TRIALS
from fleetbench.store.write import StoreError
from fleetbench_collectors.clock import pair
from fleetbench_collectors.engine import prometheus
from fleetbench_collectors.power.common import Source
from fleetbench_collectors.power.energy import window_energy
from fleetbench_collectors.power.sampler import Sampler
from fleetbench_collectors.worker import Answer, Worker, WorkerDied, WorkerTimeout

ANSWER_GRACE_S = 10.0
"""The worker gives up on a request by itself at the trial's limit; its owner waits this much longer for its word."""

Row = dict[str, Any]
Tables = Mapping[str, pa.Table]


@dataclass(slots=True, kw_only=True)
class Bench:
    """All that measuring needs on this node. idle_power_w: with the engine up and no request; None: not to be read."""

    job: LaunchJob
    session: Session
    worker: Worker
    sources: Sequence[Source]
    keeper: Keeper
    node: str
    scratch: Path
    idle_power_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What a trial came to: columns of its row, and rows of the other tables."""

    outcome: Outcome
    reason: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    tables: Tables = field(default_factory=dict)


def measure(bench: Bench, trial: Trial) -> TrialEnded:
    """Measure a trial and commit it; the engine's or the client's failure becomes its outcome."""
    began, started, clock = datetime.now(UTC), time.monotonic(), pair()
    job = bench.job
    attempt = job.trial_attempts.get(trial.trial_id, 0)
    key = {"run_id": job.run_id, "trial_id": trial.trial_id, "attempt": attempt}
    with suppress(EngineUnreachableError):  # an engine that is gone is found out by the load
        bench.session.reset_cache()
    result = _ask(bench, trial, key, zero_ns=clock.mono_ns)
    columns = {
        "clock_wall_ns": clock.wall_ns,
        "clock_mono_ns": clock.mono_ns,
        **result.columns,
        "started_at": began,
        "wall_s": time.monotonic() - started,
        "log_tail": None if result.outcome is Outcome.OK else bench.session.log_tail(),
    }
    row = trial_row(
        run_id=job.run_id,
        launch=job.launch,
        launch_attempt=job.attempt,
        trial=trial,
        attempt=attempt,
        node=bench.node,
        outcome=result.outcome,
        reason=result.reason,
        measured=columns,
    )
    return _commit(bench, trial, row, result.tables)


def canary(bench: Bench) -> str | None:
    """One cheap load point before anything counts; a sentence where the engine is not fit to be measured."""
    answer = _run(bench, canary_spec(bench.job, bench.session.receipt, bench.scratch))
    if isinstance(answer, TrialResult):
        return answer.reason
    return None if answer.evidence is None else judge(answer.evidence.counts).reason


def _ask(bench: Bench, trial: Trial, key: Mapping[str, Any], *, zero_ns: int) -> TrialResult:
    """Drive the trial's load with the collectors open around it."""
    spec = trial_spec(bench.job, trial, bench.session.receipt, key, bench.scratch)
    before = _metrics(bench, key, "before")
    with Sampler(bench.sources) as sampler:
        answer = _run(bench, spec)
    power = sampler.rows(**key)
    zero_ns = zero_ns if isinstance(answer, TrialResult) else answer.summary.get("clock_mono_ns", zero_ns)
    tables = {"power": _table("power", [_since(zero_ns, row) for row in power])}
    if isinstance(answer, TrialResult):
        return TrialResult(outcome=answer.outcome, reason=answer.reason, tables=tables)
    measured = _read(answer)
    columns = {name: value for name, value in answer.summary.items() if name in TRIALS.names}
    columns |= _energy(power, answer.window, columns.get("output_tok_s"), columns.get("window_s"))
    columns["idle_power_w"] = bench.idle_power_w
    after = [] if "timeout" in _outcomes(measured) else _metrics(bench, key, "after")
    if answer.evidence is not None:
        client = replace(answer.evidence.client, cache_hit_tok=_cache_hits(before, after))
        bound = cell_roof(trial.cell)
        floors = cell_floors(trial.cell, bound)
        columns |= {"ttft_floor_ms": floors.ttft_ms, "itl_floor_ms": floors.itl_ms}
        speed = _speed(trial, columns, bound)
        validity = judge(answer.evidence.counts, client, speed=speed)
        outcome, reason = _speed_outcome(bench, _outcomes(measured), validity)
        columns |= {"verdict": validity.verdict, "cache_hit_tok": client.cache_hit_tok}
    else:
        outcome, reason = _quality_outcome(measured["quality_items"])
        columns |= _quality_columns(measured["quality_items"])
    tables["engine_metrics"] = _table("engine_metrics", [_since(zero_ns, row) for row in (*before, *after)])
    return TrialResult(outcome=outcome, reason=reason, columns=columns, tables={**tables, **measured})


def _speed(trial: Trial, columns: Mapping[str, Any], bound: Roof | None) -> Speed:
    """What was measured beside what can be at best: where few of the sequences decode at once, that of one alone."""
    work = trial.cell.work
    alone = trial.cell if not isinstance(work, LoadPoint) else replace(trial.cell, work=replace(work, batch=1))
    return Speed(
        ttft_p50_ms=columns.get("ttft_p50_ms"),
        ttft_floor_ms=columns.get("ttft_floor_ms"),
        itl_mean_ms=columns.get("itl_mean_ms"),
        itl_floor_ms=cell_floors(alone, bound).itl_ms,
    )


def _run(bench: Bench, spec: Spec) -> Answer | TrialResult:
    """The worker's answer, or what its failure means; a dead engine explains every failure."""
    limit_s = bench.job.limits.trial_s
    try:
        answer = bench.worker.run(spec, timeout_s=limit_s + ANSWER_GRACE_S)
    except WorkerTimeout:
        return _failed(bench, Outcome.TIMEOUT, f"no end after {limit_s:g} s (limits: trial)")
    except WorkerDied as error:
        return _failed(bench, Outcome.CRASHED, str(error))
    if not answer.ok:
        outcome = Outcome.TIMEOUT if answer.kind == "timeout" else Outcome.CRASHED
        return _failed(bench, outcome, answer.error or "the load worker gave no reason")
    return answer if bench.session.alive() else _failed(bench, Outcome.CRASHED, "the engine died")


def _failed(bench: Bench, outcome: Outcome, reason: str) -> TrialResult:
    died = bench.session.exit_reason()
    if died is None:
        return TrialResult(outcome=outcome, reason=reason)
    of_cause = {"oom": Outcome.OOM, "lost": Outcome.LOST}  # lost: another node of the engine
    return TrialResult(outcome=of_cause.get(bench.session.exit_cause() or "", Outcome.CRASHED), reason=died)


def _outcomes(measured: Mapping[str, pa.Table]) -> set[str]:
    return set(measured["requests"]["outcome"].to_pylist()) if "requests" in measured else set()


def _cache_hits(before: list[Row], after: list[Row]) -> int | None:
    """Prompt tokens that the engine's cache had meanwhile, by its own counter; None where it has none."""
    had, has = (
        prometheus.total([(row["name"], row["value"]) for row in rows], prometheus.CACHED) for rows in (before, after)
    )
    return None if had is None or has is None else int(has - had)


def _speed_outcome(bench: Bench, outcomes: set[str], validity: Validity) -> tuple[Outcome, str | None]:
    if "timeout" in outcomes:
        return Outcome.TIMEOUT, validity.reason
    if validity.valid and (differences := bench.session.receipt.differences):
        return Outcome.NOT_APPLIED, "; ".join(differences)
    return validity.outcome, validity.reason


def _quality_outcome(items: pa.Table) -> tuple[Outcome, str | None]:
    """Every item needs an answer; a suite with holes cannot be paired."""
    unanswered = items["correct"].null_count
    if unanswered:
        return Outcome.INVALID, f"{unanswered} of {len(items)} items have no answer"
    return Outcome.OK, None


def _quality_columns(items: pa.Table) -> Row:
    correct = items["correct"].to_pylist()
    return {"quality_items": len(correct) - correct.count(None), "quality_correct": correct.count(True)}


def _energy(power: list[Row], window: tuple[int, int] | None, tok_s: float | None, window_s: float | None) -> Row:
    """Energy of the measured window; NULL, with the word why, where nothing could be read."""
    if window is None:
        return {"power_status": "not measured"}
    found = window_energy(power, *window)
    tokens = tok_s * window_s if tok_s and window_s else None
    per_tok = None if found.energy_j is None or not tokens else found.energy_j / tokens
    return {
        "power_status": found.status.value,
        "energy_j": found.energy_j,
        "energy_j_per_tok": per_tok,
        "power_mean_w": found.power_mean_w,
    }


def _metrics(bench: Bench, key: Mapping[str, Any], phase: str) -> list[Row]:
    """The engine's own metrics; none where it does not answer."""
    try:
        text = bench.session.metrics_text()
    except EngineUnreachableError:
        return []
    at_ns = time.monotonic_ns()
    return [
        {**key, "at_ns": at_ns, "phase": phase, "name": name, "value": value} for name, value in prometheus.values(text)
    ]


def _since(zero_ns: int, row: Row) -> Row:
    return {**row, "at_ns": row["at_ns"] - zero_ns} if row.get("at_ns") is not None else row


def _read(answer: Answer) -> dict[str, pa.Table]:
    """The worker's tables; their names are the warehouse's."""
    return {name: feather.read_table(path, memory_map=False) for name, path in answer.tables.items()}


def _table(name: str, rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMAS[name])


def _commit(bench: Bench, trial: Trial, row: Row, tables: Tables) -> TrialEnded:
    """Commit the trial; where it cannot be kept it says so and counts as lost, to be run again."""
    outcome, reason = Outcome(row["outcome"]), row["reason"]
    try:
        kept = bench.keeper.commit_trial(row, {name: table for name, table in tables.items() if len(table)})
        if not kept:
            outcome, reason = Outcome.LOST, "measured, but not kept: this attempt is in the warehouse already"
    except StoreError as error:
        outcome, reason = Outcome.LOST, f"measured, but not kept: {error}"
    return TrialEnded(
        launch_id=bench.job.launch.launch_id,
        trial_id=trial.trial_id,
        outcome=outcome,
        reason=reason,
        output_tok_s=row.get("output_tok_s"),
    )
