"""Specifications for the worker: what one trial asks of the running engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleetbench.engine.protocol import Receipt
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.matrix.types import Effort, LoadPoint, QualityPoint, Warmup
from fleetbench.plan.launches import QUALITY_SLOTS
from fleetbench.plan.types import Trial

FIRST_TOKEN_ID = 3
PROMPT_VOCABULARY = 0.75
"""Prompts draw from the first three quarters of the vocabulary: tokenizers keep special tokens at its ends."""
POSITIONS = 240
"""Teacher-forced answer tokens whose probabilities are kept for the KL divergence."""
CANARY = LoadPoint(batch=1, context_tok=16, output_tok=4)
CANARY_EFFORT = Effort(requests=1, warmup=Warmup(requests=0))
"""One cheap request before anything counts."""

Spec = dict[str, Any]


def trial_spec(job: LaunchJob, trial: Trial, receipt: Receipt, key: Mapping[str, Any], out: Path) -> Spec:
    """The trial's specification; `key` is its (run_id, trial_id, attempt)."""
    work = trial.cell.work
    if isinstance(work, QualityPoint):
        return _quality(job, work, receipt, key, out, seed=trial.cell.seed)
    return _load(job, work, receipt, key, out, seed=trial.cell.seed, effort=job.effort)


def canary_spec(job: LaunchJob, receipt: Receipt, out: Path) -> Spec:
    key = {"run_id": job.run_id, "trial_id": f"canary-{job.launch.launch_id}", "attempt": job.attempt}
    return _load(job, CANARY, receipt, key, out, seed=0, effort=CANARY_EFFORT)


def _load(
    job: LaunchJob,
    work: LoadPoint,
    receipt: Receipt,
    key: Mapping[str, Any],
    out: Path,
    *,
    seed: int,
    effort: Effort,
) -> Spec:
    warmup_context_tok, warmup_output_tok = effort.warmup.lengths_tok(work)
    vocabulary = int(job.launch.model.vocab_tok * PROMPT_VOCABULARY)
    return {
        "kind": "load",
        **key,
        "base_url": receipt.base_url,
        "model": receipt.model_alias,
        "batch": work.batch,
        "rate_per_s": work.rate,
        "arrivals": None if work.arrivals == "concurrent" else work.arrivals,
        "context_tok": work.context_tok,
        "output_tok": work.output_tok,
        "requests": max(effort.requests, work.batch or 1),
        "warmup": effort.warmup.requests,
        "warmup_context_tok": warmup_context_tok,
        "warmup_output_tok": warmup_output_tok,
        "seed": seed,
        "nonce": f"{key['trial_id']}-{key['attempt']}",
        "token_ids": {"first": FIRST_TOKEN_ID, "count": vocabulary - FIRST_TOKEN_ID},
        "request_timeout_s": job.limits.trial_s,
        "out": str(out),
    }


def _quality(
    job: LaunchJob, work: QualityPoint, receipt: Receipt, key: Mapping[str, Any], out: Path, *, seed: int
) -> Spec:
    return {
        "kind": "quality",
        **key,
        "base_url": receipt.base_url,
        "suite": work.suite,
        "items": work.items,
        "seed": seed,
        "parallel": QUALITY_SLOTS,
        "positions": POSITIONS,
        "request_timeout_s": job.limits.trial_s,
        "out": str(out),
    }
