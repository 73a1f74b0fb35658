"""How long a plan takes and what it costs, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleetbench.catalog.lookup import format_info, hardware_info
from fleetbench.matrix.types import Cell, Effort, LoadPoint
from fleetbench.plan.types import EngineLaunch, Plan, Trial

LAUNCH_S = 2.0
"""Engine start, health and first token of a small model on local disk; measured 0.3 to 2 s."""
QUALITY_ITEM_S = 0.005
"""One item of the embedded suite on the trained model, one engine thread; measured 4 to 5 ms."""
LOCAL_FLOPS = 40e9
LOCAL_BANDWIDTH = 15e9
"""Nominal figures of one CPU core (measured by prefill and decode of a 75 M model); the estimate says `nominal`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """seconds: wall time of all launches one after another; cost_usd: None where a hardware kind has no price."""

    seconds: float
    cost_usd: float | None
    from_history: int
    trials: int


def estimate(plan: Plan, history_s: Mapping[str, float]) -> Estimate:
    """Sum over launches; `history_s` maps a cell_id to the median wall seconds of its earlier trials."""
    seconds, cost, priced = 0.0, 0.0, True
    for launch in plan.launches:
        taken = launch_s(launch, plan.effort, history_s)
        seconds += taken
        hardware = hardware_info(launch.hardware)
        if hardware is None or hardware.price_usd_h is None:
            priced = False
        else:
            cost += taken / 3600 * hardware.price_usd_h * max(1, launch.parallel.gpus)
    known = sum(trial.cell.cell_id in history_s for trial in plan.trials)
    return Estimate(seconds=seconds, cost_usd=cost if priced else None, from_history=known, trials=len(plan.trials))


def launch_s(launch: EngineLaunch, effort: Effort, history_s: Mapping[str, float]) -> float:
    """Seconds of one launch with all its trials."""
    return LAUNCH_S + sum(_trial_s(trial, effort, history_s) for trial in launch.trials)


def trial_seconds(plan: Plan, history_s: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each trial, by trial_id; a launch's own seconds are counted with its first trial."""
    return {
        trial.trial_id: _trial_s(trial, plan.effort, history_s) + (LAUNCH_S if index == 0 else 0.0)
        for launch in plan.launches
        for index, trial in enumerate(launch.trials)
    }


def _trial_s(trial: Trial, effort: Effort, history_s: Mapping[str, float]) -> float:
    return history_s.get(trial.cell.cell_id) or _nominal_s(trial, effort)


def _nominal_s(trial: Trial, effort: Effort) -> float:
    work = trial.cell.work
    if not isinstance(work, LoadPoint):
        return work.items * 6 * QUALITY_ITEM_S
    batch = work.batch or 1
    warm_s = _requests_s(trial.cell, effort.warmup.requests, batch, *effort.warmup.lengths_tok(work))
    load_s = _requests_s(trial.cell, max(effort.requests, batch), batch, work.context_tok, work.output_tok)
    return warm_s + (load_s if work.rate is None else max(load_s, effort.requests / work.rate))


def _requests_s(cell: Cell, requests: int, batch: int, context_tok: int, output_tok: int) -> float:
    """Compute-bound prefill of every request, then one read of the weights per decode step of those in flight."""
    if not requests:
        return 0.0
    flying = min(batch, requests)
    form = format_info(cell.recipe.weights)
    bits = form.bits if form and form.bits else 16.0
    prefill = 2 * cell.model.params * context_tok / LOCAL_FLOPS
    step = cell.model.params * bits / 8 / LOCAL_BANDWIDTH
    return requests * prefill + requests / flying * output_tok * step * (1 + (flying - 1) / 2)
