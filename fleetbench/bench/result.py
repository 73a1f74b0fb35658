"""What a load on one server came to: one JSON object, of which tables are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleetbench import __version__
from fleetbench.bench.asked import Asked
from fleetbench.bench.probing import Probed
from fleetbench.bench.run import Load, fits
from fleetbench.judge.validity import Kind, Validity
from fleetbench_collectors.load import latency, slo
from fleetbench_collectors.load.columns import column, measured
from fleetbench_collectors.load.evidence import Evidence
from fleetbench_collectors.load.latency import Samples
from fleetbench_collectors.load.record import OUTCOMES, UNKNOWN, Records
from fleetbench_collectors.load.steady import Steady
from fleetbench_collectors.load.tally import Tally
from fleetbench_collectors.load.workload import Replay

LATENCIES = {
    "ttft_ms": "ttft_ms",
    "itl_ms": "itl_ms",
    "tpot_ms": "tpot_ms",
    "e2e_ms": "e2e_ms",
    "first_byte_ms": "ttfb_ms",
    "gap_ms": "gap_ms",
    "queue_ms": "queue_ms",
    "ttft_intended_ms": "ttft_intended_ms",
    "e2e_intended_ms": "e2e_intended_ms",
    "user_tok_s": "user_tok_s",
}
"""Fields of `latency.Samples` by their names in the result."""
_STEADY = ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms")
_WHOLE_RATIO = 0.5
_RATES = ("output_tok_s", "total_tok_s", "requests_per_s")

THEIR_OWN = "as recorded"
"""Lengths of a trace or a file."""

Row = dict[str, Any]


def result(load: Load, *, steady: Steady, evidence: Evidence, validity: Validity, interrupted: bool) -> Row:
    """The object; what has no samples is None, never 0.

    Times count from the start of the measured phase. Figures are over all completed requests; those of the steady
    window stand apart under `steady`.
    """
    asked, records, tallies = load.asked, load.outcome.records, load.outcome.tallies
    summary = latency.summarise(records, asked_requests=int(measured(records).sum()))
    samples = latency.samples(records)
    wrong = [reason for reason in validity.reasons if reason.kind is not Kind.UNVERIFIED]
    return {
        "valid": validity.valid,
        "reasons": [reason.sentence for reason in wrong],
        "kinds": [reason.kind.value for reason in wrong],
        "warnings": [reason.sentence for reason in validity.warnings] + notes(load, steady, interrupted=interrupted),
        "interrupted": interrupted,
        "fleetbench_version": __version__,
        "started_at": load.began.isoformat(),
        **_asked(asked, load.workload.model),
        "asked": asked.described(),
        "stamp": evidence.client.stamp,
        "requests": summary["asked_requests"],
        "completed": summary["completed_requests"],
        "failed": summary["failed_requests"],
        "cancelled": summary["cancelled_requests"],
        "probes": load.probes,
        "warmup": int((~measured(records)).sum()),
        "resent": sum(tally.resent for tally in tallies),
        "failures": failures(records),
        "duration_s": summary["window_s"],
        **{name: summary[name] for name in _RATES},
        "prompt_tok": _spread(column(records, "prompt_tok")[measured(records, "ok")]),
        "output_tok": _spread(column(records, "output_tok")[measured(records, "ok")]),
        "tokens_from": summary["tokens_from"],
        **_latencies(samples, LATENCIES),
        "goodput": _goodput(records, asked.slo),
        "steady": _steady(records, steady, load.outcome.zero_ns, asked.batch),
        "steady_reason": steady.reason,
        "calibration": None if load.probed is None else _calibration(load.probed),
        "evidence": asdict(evidence.client) | {"cached_tok": evidence.counts.cached_tok, "cpu_s": _cpu_s(tallies)},
    }


def notes(load: Load, steady: Steady, *, interrupted: bool) -> list[str]:
    """What a reader should know beside the verdict."""
    found = []
    plan = None if load.probed is None else load.probed.calibration
    if plan is not None and not plan.verified:
        found.append(f"the length of prompts is not verified: {plan.reason}")
    elif plan is not None and load.varied and not fits(plan):
        why = f"words cost {plan.cost_tok} tokens each at this server, and nothing fills up what is left"
        found.append(f"lengths of prompts are near those asked for, not exact: {why}: use --tokenizer or one --context")
    if load.probed is not None and load.probed.refused:
        found.append(_refused(load.probed.refused))
    cut = int(measured(load.outcome.records, "cancelled").sum())
    if interrupted and cut:
        said = f"{cut} requests were cut off, and no figure of the whole load has their tokens: output_tok_s is too low"
        found.append(said if steady.start_ns is None else f"{said}; that of the steady window counts them")
    target = load.asked.target
    if load.outcome.tallies and load.asked.kernel and target.tls:
        found.append(f"over {target.way} the client stamps arrivals itself, a slower path")
    if load.outcome.tallies and target.proxy:
        found.append("through a proxy: what it delays is part of every figure")
    if (latency.whole_ratio(load.outcome.records) or 0) > _WHOLE_RATIO:
        found.append("responses came whole: the server, or something between it and the client, buffers them")
    return found


def _refused(keys: tuple[str, ...]) -> str:
    said = f"the server refuses {', '.join(keys)}: the load was sent without"
    return f"{said}, so answers end where the model ends them" if "ignore_eos" in keys else said


def failures(records: Records) -> dict[str, Row]:
    """Failed requests by outcome: how many, and the words of the first."""
    found: dict[str, Row] = {}
    outcomes = column(records, "outcome")
    rows = measured(records) & ~measured(records, "ok", "cancelled")
    for position in np.flatnonzero(rows).tolist():
        entry = found.setdefault(OUTCOMES[int(outcomes[position])], {"count": 0, "example": None})
        entry["count"] += 1
        entry["example"] = entry["example"] or records.errors.get(position)
    return found


def _asked(asked: Asked, model: str) -> Row:
    rate, own = asked.rate_per_s, isinstance(asked.arrivals, Replay)
    return {
        "url": asked.url,
        "model": model,
        "endpoint": asked.endpoint,
        "load": asked.load,
        "batch": asked.batch,
        "rate_per_s": rate,
        "context": THEIR_OWN if own or asked.prompts_file else str(asked.context),
        "output": THEIR_OWN if own else str(asked.output),
        "prompts": None if asked.prompts_file is None else asked.prompts_file.path,
        "seed": asked.seed,
        "processes": asked.processes,
        "way": asked.target.way,
    }


def _latencies(samples: Samples, names: Mapping[str, str]) -> Row:
    return {name: _stats(getattr(samples, field)) for name, field in names.items()}


def _stats(values: NDArray[np.float64]) -> Row:
    found = latency.stats(values)
    return {"mean": None, "p50": None, "p90": None, "p99": None, "n": 0} if found is None else asdict(found)


def _spread(values: NDArray[np.int64]) -> Row | None:
    known = values[values != UNKNOWN]
    if not known.size:
        return None
    return {"mean": float(known.mean()), "min": int(known.min()), "max": int(known.max())}


def _goodput(records: Records, targets: str | None) -> Row | None:
    if targets is None:
        return None
    return {"slo": targets, **asdict(slo.goodput(records, slo.parse(targets)))}


def _steady(records: Records, steady: Steady, zero_ns: int | None, batch: int | None) -> Row | None:
    if steady.start_ns is None or steady.end_ns is None:
        return None
    zero_ns = zero_ns or 0
    found = latency.restrict(records, start_ns=steady.start_ns, end_ns=steady.end_ns)
    return {
        "start_s": (steady.start_ns - zero_ns) / 1e9,
        "end_s": (steady.end_ns - zero_ns) / 1e9,
        "share": steady.share_ratio,
        "judged": steady.judged,
        "achieved_batch": found["concurrency"] if batch is not None else None,
        **{name: found[name] for name in _RATES},
        **_latencies(latency.samples(records, (steady.start_ns, steady.end_ns)), {name: name for name in _STEADY}),
    }


def _calibration(probed: Probed) -> Row:
    plan = probed.calibration
    return {
        "verified": plan.verified,
        "off_tok": plan.off_tok,
        "overhead_tok": plan.overhead_tok,
        "reason": plan.reason,
    }


def _cpu_s(tallies: Sequence[Tally]) -> float | None:
    return sum(tally.cpu_s for tally in tallies) if tallies else None
