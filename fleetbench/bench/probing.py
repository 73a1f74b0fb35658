"""Finds out by a few requests how prompts of the asked length are made for this server."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from fleetbench_collectors.load import calibrate
from fleetbench_collectors.load.client import Client
from fleetbench_collectors.load.exchange import Request
from fleetbench_collectors.load.record import OUTCOMES, UNKNOWN
from fleetbench_collectors.load.source import wire
from fleetbench_collectors.load.words import WORDS, Calibration
from fleetbench_collectors.load.workload import Ids, Words, Workload

_TIMEOUT_S = 60.0
_RESPONSE_MAX_BYTES = 1 << 20
_FAILED = -2
_REFUSAL = re.compile("HTTP (400|422)\\b")
_REFUSABLE = (("cache_prompt",), ("ignore_eos", "seed"), ("stream_options",))
"""Keys of the body that strict servers may refuse, the likeliest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """The prompts to send, how they were calibrated, and what the probes cost.

    failure: why a probe failed; then the prompts are made as if words cost one token each; refused: keys of the body
    that the load does without, as the server refuses requests that have them.
    """

    prompts: Ids | Words
    calibration: Calibration
    requests: int
    failure: str | None = None
    refused: tuple[str, ...] = ()


def probe(
    load: Workload, *, words: Sequence[str], ids: range | tuple[int, ...] | None, stopped: Callable[[], bool]
) -> Probed:
    """Calibrates prompts for the load's longest context.

    Args:
        load: whose prompts are to be made; its own are not looked at.
        words: to make texts of; none for the words that most vocabularies have.
        ids: token ids to use where the endpoint takes them.
        stopped: whether to give up, asked every tick.
    """
    target_tok = load.context.longest
    words = words or WORDS
    if ids is not None and load.endpoint == "completions":
        planner = calibrate.plan_tokens(ids, target_tok=target_tok)
    else:
        planner = calibrate.plan_text(words, endpoint=load.endpoint, target_tok=target_tok)
    asker = _Asker(load, stopped)
    found = asker.answers(planner)
    plan = found or _plain(words, asker.sent, asker.failure)
    prompts = Ids(ids=ids, overhead_tok=plan.overhead_tok) if ids is not None else Words(plan=plan)
    return Probed(prompts=prompts, calibration=plan, requests=asker.sent, failure=asker.failure, refused=asker.refused)


class _Asker:
    """Sends a planner's probes one by one."""

    def __init__(self, load: Workload, stopped: Callable[[], bool]) -> None:
        self.sent = 0
        self.failure: str | None = None
        self.refused: tuple[str, ...] = ()
        self._load = load
        self._wire = wire(load)
        self._stopped = stopped
        self._client = Client(
            load.target,
            places=1,
            timeout_s=min(load.request_timeout_s, _TIMEOUT_S),
            response_max_bytes=_RESPONSE_MAX_BYTES,
            kernel=False,
        )

    def answers(self, planner: calibrate.Planner) -> Calibration | None:
        """Where the planner gets to; None where a probe fails."""
        with self._client:
            try:
                asked = next(planner)
                while (counted := self._count(asked.prompt)) != _FAILED:
                    asked = planner.send(None if counted == UNKNOWN else counted)
            except StopIteration as done:
                found: Calibration = done.value
                return found
        return None

    def _count(self, prompt: bytes) -> int:
        """The server's count; the first probe is tried again without keys that the server may refuse."""
        first = self.sent == 0
        counted = self._ask(prompt)
        if not first or not self._is_refused():
            return counted
        why = self.failure
        for keys in _without(self._load.body):
            self._wire = wire(replace(self._load, body={**self._load.body, **dict.fromkeys(keys)}))
            counted = self._ask(prompt)
            if counted != _FAILED:
                self.refused, self.failure = keys, None
                return counted
            if not self._is_refused():
                break
        self.failure = why
        return _FAILED

    def _is_refused(self) -> bool:
        return self.failure is not None and _REFUSAL.match(self.failure) is not None

    def _ask(self, prompt: bytes) -> int:
        request = Request(number=self.sent, payload=self._wire.payload(prompt, 1), prompt_tok=0, output_tok=1)
        self.sent += 1
        client = self._client
        client.run(iter([request]), phase="warmup", zero_ns=time.monotonic_ns(), watch=lambda _: not self._stopped())
        client.pile.understand_all()
        row = client.pile.records.row(len(client.pile.records) - 1)
        if OUTCOMES[row["outcome"]] == "ok":
            return row["prompt_tok"]
        self.failure = client.pile.records.errors.get(len(client.pile.records) - 1, OUTCOMES[row["outcome"]])
        return _FAILED


def _without(given: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Keys to leave out, more each time; not those that the user gave."""
    keys: tuple[str, ...] = ()
    for more in _REFUSABLE:
        free = tuple(key for key in more if key not in given)
        keys += free
        if free:
            yield keys


def _plain(words: Sequence[str], probes: int, reason: str | None) -> Calibration:
    return Calibration(
        overhead_tok=0,
        cost_tok=1,
        words=tuple(words),
        filler=None,
        verified=False,
        off_tok=None,
        probes=probes,
        reason=f"a probe failed: {reason}",
    )
