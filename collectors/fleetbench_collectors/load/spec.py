"""What one speed trial is asked for, as it crosses the worker's pipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from fleetbench_collectors.load.arrivals import steady
from fleetbench_collectors.load.lengths import parse
from fleetbench_collectors.load.target import Target
from fleetbench_collectors.load.workload import IN_FLIGHT_MAX, Ids, OpenLoop, Warmup, Workload

Arrivals = Literal["constant", "poisson"]


class SpecError(ValueError):
    """A specification that cannot be run; the text names every mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """The token ids that prompts may use: `count` of them from `first` on."""

    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """A closed loop of `batch` requests in flight, or an open one of `rate_per_s` requests started per second.

    base_url: of the engine; batch: None in an open loop; rate_per_s, arrivals: None in a closed one; context_tok,
    output_tok: exact lengths of prompt and answer; requests: measured ones, at least `batch`; warmup: requests before
    them, kept apart; warmup_context_tok, warmup_output_tok: their lengths, at most the measured ones'; seed, nonce:
    make the prompts; request_timeout_s: from start to the last byte; out: the folder for the tables.
    """

    run_id: str
    trial_id: str
    attempt: int
    base_url: str
    model: str
    batch: int | None
    rate_per_s: float | None
    arrivals: Arrivals | None
    context_tok: int
    output_tok: int
    requests: int
    warmup: int
    warmup_context_tok: int
    warmup_output_tok: int
    seed: int
    nonce: str
    token_ids: TokenIds
    request_timeout_s: float
    out: str

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> LoadSpec:
        """A checked specification.

        Raises:
            SpecError: keys are missing, unknown, of a wrong type or out of range; all of them at once.
        """
        mistakes = list(_mistakes(raw))
        if mistakes:
            raise SpecError("; ".join(mistakes))
        values = {**raw, "token_ids": TokenIds(**raw["token_ids"])}
        values["request_timeout_s"] = float(raw["request_timeout_s"])
        spec = cls(**values)
        mistakes = list(_contradictions(spec))
        if mistakes:
            raise SpecError("; ".join(mistakes))
        return spec

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def workload(self) -> Workload:
        """What the generator sends.

        Raises:
            ValueError: a rate that no client reaches.
        """
        loop = None
        if self.rate_per_s is not None:
            loop = OpenLoop(profile=steady(self.rate_per_s), process=self.arrivals or "poisson")
        ids = self.token_ids
        return Workload(
            target=Target.parse(self.base_url),
            endpoint="completions",
            model=self.model,
            places=self.batch or IN_FLIGHT_MAX,
            arrivals=loop,
            requests=self.requests,
            seconds=None,
            context=parse(str(self.context_tok)),
            output=parse(str(self.output_tok)),
            prompts=Ids(ids=range(ids.first, ids.first + ids.count)),
            seed=self.seed,
            nonce=self.nonce,
            request_timeout_s=self.request_timeout_s,
            warmup=Warmup(requests=self.warmup, context_tok=self.warmup_context_tok, output_tok=self.warmup_output_tok),
        )


_AT_LEAST: Mapping[str, int | None] = {
    "attempt": 0,
    "context_tok": 1,
    "output_tok": 1,
    "requests": 1,
    "warmup": 0,
    "warmup_context_tok": 1,
    "warmup_output_tok": 1,
    "seed": None,
}
_TEXTS = ("run_id", "trial_id", "base_url", "model", "nonce", "out")


def _mistakes(raw: Mapping[str, Any]) -> Iterator[str]:
    known = {entry.name for entry in fields(LoadSpec)}
    yield from (f"{name} is unknown" for name in sorted(set(raw) - known))
    yield from (f"{name} is missing" for name in sorted(known - set(raw)))
    for name in _TEXTS:
        if name in raw and not isinstance(raw[name], str):
            yield f"{name} must be text, not {raw[name]!r}"
    for name, least in _AT_LEAST.items():
        if name in raw:
            yield from _bad_int(name, raw[name], least)
    yield from _bad_loop(raw)
    if "token_ids" in raw:
        yield from _bad_ids(raw["token_ids"])
    if "request_timeout_s" in raw and not _positive(raw["request_timeout_s"]):
        yield f"request_timeout_s must be a number of seconds above 0, not {raw['request_timeout_s']!r}"


def _bad_loop(raw: Mapping[str, Any]) -> Iterator[str]:
    batch, rate_per_s, arrivals = raw.get("batch"), raw.get("rate_per_s"), raw.get("arrivals")
    if batch is not None:
        yield from _bad_int("batch", batch, 1)
    if rate_per_s is not None and not _positive(rate_per_s):
        yield f"rate_per_s must be a number above 0, not {rate_per_s!r}"
    if (batch is None) == (rate_per_s is None):
        yield "one of batch and rate_per_s is needed, and the other must be null"
    if rate_per_s is not None and arrivals not in get_args(Arrivals):
        yield f"arrivals must be one of {', '.join(get_args(Arrivals))}, not {arrivals!r}"
    if rate_per_s is None and arrivals is not None:
        yield "arrivals must be null in a closed loop"


def _bad_int(name: str, value: object, least: int | None) -> Iterator[str]:
    if not isinstance(value, int) or isinstance(value, bool):
        yield f"{name} must be a whole number, not {value!r}"
    elif least is not None and value < least:
        yield f"{name} must be at least {least}, not {value}"


def _bad_ids(raw: object) -> Iterator[str]:
    if not isinstance(raw, dict) or set(raw) != {"first", "count"}:
        yield f"token_ids must be {{first, count}}, not {raw!r}"
        return
    yield from _bad_int("token_ids.first", raw["first"], 0)
    yield from _bad_int("token_ids.count", raw["count"], 1)


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _contradictions(spec: LoadSpec) -> Iterator[str]:
    if spec.batch is not None and spec.requests < spec.batch:
        yield f"{spec.requests} requests never keep {spec.batch} in flight: ask for at least {spec.batch}"
    for name in ("context_tok", "output_tok"):
        warm, measured = getattr(spec, f"warmup_{name}"), getattr(spec, name)
        if warm > measured:
            yield f"warmup_{name} must be at most {name}, {measured}, not {warm}"
    try:
        Target.parse(spec.base_url)
    except ValueError as error:
        yield f"base_url: {error}"
