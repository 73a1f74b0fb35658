"""What one speed trial is asked for, as it crosses the worker's pipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal
from urllib.parse import urlsplit

Phase = Literal["warmup", "measure"]


class SpecError(ValueError):
    """A specification that cannot be run; the text names every mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """The token ids that prompts may use: `count` of them from `first` on."""

    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """A closed loop of `batch` requests in flight.

    base_url: of the engine, http only; context_tok, output_tok: exact lengths of prompt and answer;
    requests: measured ones, at least `batch`; warmup: requests before them, kept apart;
    warmup_context_tok, warmup_output_tok: their lengths, at most the measured ones'; seed, nonce: make the
    prompts; request_timeout_s: from start to the last byte; out: the folder for the tables.
    """

    run_id: str
    trial_id: str
    attempt: int
    base_url: str
    model: str
    batch: int
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

    def lengths_tok(self, phase: Phase) -> tuple[int, int]:
        """Exact lengths of prompt and answer."""
        if phase == "warmup":
            return self.warmup_context_tok, self.warmup_output_tok
        return self.context_tok, self.output_tok

    @property
    def address(self) -> tuple[str, int]:
        url = urlsplit(self.base_url)
        return url.hostname or "", url.port or 80

    @property
    def path(self) -> str:
        return urlsplit(self.base_url).path.rstrip("/")


_AT_LEAST: Mapping[str, int | None] = {
    "attempt": 0,
    "batch": 1,
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
    if "token_ids" in raw:
        yield from _bad_ids(raw["token_ids"])
    if "request_timeout_s" in raw and not _positive(raw["request_timeout_s"]):
        yield f"request_timeout_s must be a number of seconds above 0, not {raw['request_timeout_s']!r}"


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
    if spec.requests < spec.batch:
        yield f"{spec.requests} requests never keep {spec.batch} in flight: ask for at least {spec.batch}"
    prompts = spec.requests + spec.warmup
    ids = spec.token_ids.count
    shortest_tok = min(spec.context_tok, spec.warmup_context_tok) if spec.warmup else spec.context_tok
    if ids ** min(shortest_tok, 64) < prompts:
        yield f"{prompts} prompts of {shortest_tok} tokens out of {ids} cannot all differ"
    for name in ("context_tok", "output_tok"):
        warm, measured = getattr(spec, f"warmup_{name}"), getattr(spec, name)
        if warm > measured:
            yield f"warmup_{name} must be at most {name}, {measured}, not {warm}"
    try:
        url = urlsplit(spec.base_url)
        usable = url.scheme == "http" and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        yield f"base_url must be http://HOST:PORT, not {spec.base_url!r}"
