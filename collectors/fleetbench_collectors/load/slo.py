"""Targets that a request is to meet, and goodput: what meets them all.

Source: DistServe (Zhong et al., OSDI 2024), whose goodput is the highest rate at which 90 % meet the targets; vLLM's
`bench serve --goodput`, which gives the requests per second that meet them at the rate at hand, as here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from fleetbench_collectors.load.columns import Floats, Mask, column, measured, tokens, until_ns
from fleetbench_collectors.load.latency import e2e_intended_ms, itl_p99_ms, tpot_ms, ttft_intended_ms
from fleetbench_collectors.load.record import Records

NAMES = ("ttft", "itl", "tpot", "e2e")
_MS = {"": 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3}
_TARGET = re.compile(r"(?P<name>[^:=]*)[:=](?P<amount>[0-9]*\.?[0-9]+)(?P<unit>[a-z]*)")
_FORM = "write NAME:MS, such as ttft:500,tpot:50 or e2e=10s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """The most that a request may take, in ms; None where there is no target.

    ttft_ms, e2e_ms: from the scheduled start; itl_ms: the 99th percentile of the request's own.
    """

    ttft_ms: float | None = None
    itl_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """met of asked requests met all targets. per_s: of those, from the first start to the last stamp of any request.

    ratio: met / asked; both are None where nothing was asked. Failed requests are asked, cancelled ones are not.
    """

    per_s: float | None
    ratio: float | None
    met: int
    asked: int


def parse(texts: str | Iterable[str]) -> Slo:
    """Targets as written on a command line: `ttft:500,tpot:50`, `e2e=10s`, in one text or several; ms without a unit.

    Raises:
        ValueError: a target has no such form, an unknown name or unit, is not above 0, or is given twice; or none is.
    """
    written = [texts] if isinstance(texts, str) else list(texts)
    targets: dict[str, float] = {}
    for text in re.split(r"[,\s]+", ",".join(written).strip(", \t\n")):
        name, target_ms = _target(text)
        if f"{name}_ms" in targets:
            raise ValueError(f"{name} has two targets: give it one")
        targets[f"{name}_ms"] = target_ms
    return Slo(**targets)


def met(records: Records, slo: Slo) -> Mask:
    """[n] whether a measured request went well and met every target.

    An answer of one arrival waits between no tokens, and meets itl and tpot; where a number is unknown otherwise, the
    target is not met.
    """
    single = (column(records, "gaps_n") == 0) | (tokens(records).tok == 1)
    found: dict[str, Floats] = {"ttft_ms": ttft_intended_ms(records), "e2e_ms": e2e_intended_ms(records)}
    if slo.tpot_ms is not None:
        found["tpot_ms"] = np.where(single, 0.0, tpot_ms(records))
    if slo.itl_ms is not None:
        found["itl_ms"] = np.where(single, 0.0, itl_p99_ms(records))
    kept = measured(records, "ok")
    for name, target_ms in asdict(slo).items():
        if target_ms is not None:
            kept &= found[name] <= target_ms  # NaN is not
    return kept


def goodput(records: Records, slo: Slo) -> Goodput:
    """Of the measured requests of a trial."""
    sent = measured(records)
    asked = int(sent.sum() - measured(records, "cancelled").sum())
    kept = int(met(records, slo).sum())
    if not asked:
        return Goodput(per_s=None, ratio=None, met=0, asked=0)
    window_ns = int(until_ns(records)[sent].max() - column(records, "start_ns")[sent].min())
    return Goodput(per_s=kept * 1e9 / window_ns if window_ns else None, ratio=kept / asked, met=kept, asked=asked)


def _target(text: str) -> tuple[str, float]:
    found = _TARGET.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no target: {_FORM}")
    name, unit, amount = found["name"], found["unit"], float(found["amount"])
    if name not in NAMES:
        raise ValueError(f"there is no target {name!r}: use {', '.join(NAMES[:-1])} or {NAMES[-1]}; {_FORM}")
    if unit not in _MS:
        raise ValueError(f"{text!r} has the unit {unit!r}: use us, ms or s")
    if not (amount > 0 and math.isfinite(amount)):
        raise ValueError(f"{text!r} must be above 0")
    return name, amount * _MS[unit]
