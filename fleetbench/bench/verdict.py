"""What a load came to, and whether that may be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from fleetbench.bench.result import result
from fleetbench.bench.run import Load
from fleetbench.judge.validity import Kind, Reason, Terms, Validity, judge
from fleetbench.matrix.types import Outcome
from fleetbench_collectors.engine import prometheus
from fleetbench_collectors.load import certify, steady
from fleetbench_collectors.load.columns import measured
from fleetbench_collectors.load.evidence import CacheCounts, Counts, Evidence
from fleetbench_collectors.load.steady import Steady
from fleetbench_collectors.load.workload import Replay

TEMPLATE_TOK = 32
"""A chat template's own tokens, which all prompts begin with, where the probes did not tell how many."""
BLOCK_TOK = 16
"""A prefix cache holds whole blocks of a prompt (vLLM's default): tokens shared by all may bring so many more. One that
goes by single tokens has those that all texts begin with: BOS, the first word, the first digits of its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A load with its verdict; `row` is the result as one JSON object."""

    load: Load
    steady: Steady
    evidence: Evidence
    validity: Validity
    row: dict[str, Any]


def judged(load: Load, *, interrupted: bool) -> Judged:
    """The verdict on a load and its figures."""
    records, asked = load.outcome.records, load.asked
    found = steady.find(records, batch=asked.batch, constant=asked.arrivals is None or asked.rate_per_s is not None)
    certified = certify.collect(
        records,
        load.outcome.tallies,
        found,
        asked=_asked_requests(load, interrupted=interrupted),
        batch=asked.batch,
        before=_cached(load.before),
        after=_cached(load.after),
    )
    validity = _whole(
        load, judge(_asked_for(load, certified.counts), certified.client, _terms(load)), interrupted=interrupted
    )
    return Judged(
        load=load,
        steady=found,
        evidence=certified,
        validity=validity,
        row=result(load, steady=found, evidence=certified, validity=validity, interrupted=interrupted),
    )


def _asked_for(load: Load, counts: Counts) -> Counts:
    """Nobody asked for the length of a file's prompts."""
    return counts if load.asked.prompts_file is None else replace(counts, wrong_prompt_tok=())


def _whole(load: Load, found: Validity, *, interrupted: bool) -> Validity:
    """Not valid either where nothing was measured, or where the load ended before its end."""
    records = load.outcome.records
    sentences = list(load.outcome.failures)
    if found.valid and not measured(records, "ok").any():
        sentences.append(f"none of {measured(records).sum()} requests was completed")
    given_up = 0 if interrupted else int(measured(records, "cancelled").sum())
    if given_up:
        sentences.append(f"{given_up} requests were cancelled, and no more sent: the ones before them had all failed")
    if not sentences:
        return found
    lost = tuple(Reason(kind=Kind.FAILED, sentence=sentence) for sentence in sentences)
    return Validity(
        outcome=Outcome.INVALID,
        reason="; ".join([*sentences, *([] if found.reason is None else [found.reason])]),
        reasons=lost + found.reasons,
    )


def _asked_requests(load: Load, *, interrupted: bool) -> int:
    """Requests that were to be sent: what was not sent because somebody stopped it was not to be."""
    sent = int(measured(load.outcome.records).sum())
    counted = (
        load.asked.requests if load.asked.seconds is None and not isinstance(load.asked.arrivals, Replay) else None
    )
    return sent if interrupted or counted is None else counted


def _terms(load: Load) -> Terms:
    """A load on somebody's server is held to what the server can confirm."""
    shared_tok = load.asked.shared_tok
    plan = None if load.probed is None else load.probed.calibration
    if load.asked.endpoint == "chat":
        shared_tok += TEMPLATE_TOK if plan is None else plan.overhead_tok
    return Terms(strict=False, calibrated=load.calibrated, shared_tok=shared_tok + BLOCK_TOK)


def _cached(metrics: list[tuple[str, float]]) -> CacheCounts | None:
    hits = prometheus.total(metrics, prometheus.CACHED)
    return None if hits is None or not math.isfinite(hits) else CacheCounts(hits_tok=int(hits))
