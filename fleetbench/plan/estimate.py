"""How long a plan takes and what it costs, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fleetbench.catalog.lookup import format_info, gpu_info
from fleetbench.matrix.types import Cell, Effort, LoadPoint
from fleetbench.plan.memory import weight_bytes
from fleetbench.plan.roofline import Roof, cell_roof
from fleetbench.plan.types import EngineLaunch, Plan, Trial

LAUNCH_S = 2.0
"""Engine start, health and first token of a small model on local disk; measured 0.3 to 2 s."""
GPU_LAUNCH_S = 90.0
STORAGE_BYTES_S = 2e9
ROOFLINE_SHARE = 0.5
"""Nominal, measured by nobody: a large engine's own start, what storage reads, and the share of the hardware's floor
that an engine reaches. They serve until trials of the same cells say better."""
QUALITY_ITEM_S = 0.005
"""One item of the embedded suite on the trained model, one engine thread; measured 4 to 5 ms."""
LOCAL_FLOPS = 40e9
LOCAL_BANDWIDTH = 15e9
"""Nominal figures of one CPU core (measured by prefill and decode of a 75 M model); the estimate says `nominal`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a plan takes, launches one after another.

    launches_s: of each launch by its id; cost_usd: None where a hardware kind has no price; unpriced: such kinds.
    """

    seconds: float
    launches_s: Mapping[str, float]
    cost_usd: float | None
    unpriced: tuple[str, ...]
    from_history: int
    trials: int


def estimate(plan: Plan, history_s: Mapping[str, float]) -> Estimate:
    """Sum over launches; `history_s` maps a cell_id to the median wall seconds of its earlier trials."""
    launches_s = {launch.launch_id: launch_s(launch, plan.effort, history_s) for launch in plan.launches}
    cost, lacking = 0.0, unpriced(plan)
    for launch in plan.launches:
        taken = launches_s[launch.launch_id]
        gpu = gpu_info(launch.hardware)
        if gpu is not None and gpu.price_usd_h is not None:
            cost += taken / 3600 * gpu.price_usd_h.value * max(1, launch.parallel.gpus)
    known = sum(trial.cell.cell_id in history_s for trial in plan.trials)
    return Estimate(
        seconds=sum(launches_s.values()),
        launches_s=launches_s,
        cost_usd=None if lacking else cost,
        unpriced=lacking,
        from_history=known,
        trials=len(plan.trials),
    )


def unpriced(plan: Plan) -> tuple[str, ...]:
    """Kinds of hardware that the plan uses and nobody knows the price of."""
    kinds = {launch.hardware: gpu_info(launch.hardware) for launch in plan.launches}
    return tuple(kind for kind, gpu in kinds.items() if gpu is None or gpu.price_usd_h is None)


def unlimited(plan: Plan) -> str | None:
    """What the plan's limit in USD does not limit, in a sentence; None where it limits all that runs, or is none."""
    limit_usd, kinds = plan.matrix.limits.cost_usd, unpriced(plan)
    if limit_usd is None or not kinds:
        return None
    return (
        f"limits: cost_usd {limit_usd:g} does not limit what runs on {', '.join(kinds)}: no price of it is known (give "
        "price_usd_h in a catalog of your own, FLEETBENCH_CATALOG)"
    )


def launch_s(launch: EngineLaunch, effort: Effort, history_s: Mapping[str, float]) -> float:
    """Seconds of one launch with all its trials."""
    return sum(parts_s(launch, effort, history_s))


def parts_s(launch: EngineLaunch, effort: Effort, history_s: Mapping[str, float]) -> Iterator[float]:
    """Of the start, then of each trial."""
    yield _start_s(launch)
    bound = cell_roof(launch.trials[0].cell) if launch.trials else None
    for trial in launch.trials:
        yield history_s.get(trial.cell.cell_id) or _nominal_s(trial, effort, bound)


def _start_s(launch: EngineLaunch) -> float:
    """Engine start to first token: on a GPU the weights come from storage, and graphs are compiled."""
    gpu, shape = gpu_info(launch.hardware), launch.model.shape
    if gpu is None or gpu.bandwidth_bytes_s is None or shape is None:
        return LAUNCH_S
    return GPU_LAUNCH_S + weight_bytes(shape, launch.recipe) / STORAGE_BYTES_S


def trial_seconds(plan: Plan, history_s: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each trial, by trial_id; a launch's own seconds are counted with its first trial."""
    found: dict[str, float] = {}
    for launch in plan.launches:
        start_s, *trials_s = parts_s(launch, plan.effort, history_s)
        for trial, seconds in zip(launch.trials, trials_s, strict=True):
            found[trial.trial_id] = seconds + start_s
            start_s = 0.0
    return found


def _nominal_s(trial: Trial, effort: Effort, bound: Roof | None) -> float:
    work = trial.cell.work
    if not isinstance(work, LoadPoint):
        return work.items * 6 * QUALITY_ITEM_S
    batch = work.batch or 1
    warm_context, warm_output = effort.warmup.lengths_tok(work)
    warm_s = _requests_s(
        trial.cell,
        bound,
        batch=batch,
        requests=effort.warmup.requests,
        context_tok=warm_context,
        output_tok=warm_output,
    )
    load_s = _requests_s(
        trial.cell,
        bound,
        batch=batch,
        requests=max(effort.requests, batch),
        context_tok=work.context_tok,
        output_tok=work.output_tok,
    )
    return warm_s + (load_s if work.rate is None else max(load_s, effort.requests / work.rate))


def _requests_s(
    cell: Cell, bound: Roof | None, *, batch: int, requests: int, context_tok: int, output_tok: int
) -> float:
    """Compute-bound prefill of every request, then one read of the weights per decode step of those in flight."""
    if not requests:
        return 0.0
    flying = min(batch, requests)
    rounds = requests / flying * output_tok
    if bound is not None:
        prefill, step = bound.ttft(context_tok).seconds, bound.itl(flying, context_tok).seconds
        return (requests * prefill + rounds * step) / ROOFLINE_SHARE
    form = format_info(cell.recipe.weights)
    bits = form.bits(cell.recipe.group_size) if form else 16.0
    prefill = 2 * cell.model.params * context_tok / LOCAL_FLOPS
    step = cell.model.params * bits / 8 / LOCAL_BANDWIDTH
    return requests * prefill + rounds * step * (1 + (flying - 1) / 2)
