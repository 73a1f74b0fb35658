"""The requests of a load, one after the other, serialised as they are asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

from fleetbench_collectors.load import arrivals, datasets, traces
from fleetbench_collectors.load.exchange import Request
from fleetbench_collectors.load.prompts import BlockPrompts, Prompts, SamplePrompts, TokenPrompts, WordPrompts
from fleetbench_collectors.load.traces import TraceRequest
from fleetbench_collectors.load.wire import Wire
from fleetbench_collectors.load.workload import File, Ids, OpenLoop, Replay, Share, Words, Workload

_TOKEN_MAX_BYTES = 4_096
_RESPONSE_MIN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request before it is serialised; at_ns as in `Request`. A prompt length of 0 is the file's own."""

    number: int
    prompt_tok: int
    output_tok: int
    at_ns: int | None = None


class Source:
    """Makes the requests of one process's share of a load.

    Requests are numbered over the whole load, warm-up first, so that processes need not agree on anything.
    """

    def __init__(self, load: Workload, share: Share) -> None:
        """Reads the files that it needs.

        Raises:
            ValueError: a file makes no sense, or there are no prompts of that length.
            OSError: a file cannot be read.
        """
        self._load = load
        self._share = share
        self._trace = _trace(load)
        self._samples = _samples(load)
        self._prompts = self._made()
        self._wire = wire(load)
        longest_tok = max(load.output.longest, load.warmup.output_tok, *(asked.output_tok for asked in self._trace), 1)
        self.response_max_bytes = max(_RESPONSE_MIN_BYTES, _TOKEN_MAX_BYTES * longest_tok)

    @property
    def first(self) -> int:
        """Number of the first measured request."""
        return self._load.warmup.requests

    def warmup(self) -> Iterator[Request]:
        warmup = self._load.warmup
        for number in range(warmup.requests):
            if self._share.mine(number, self._load.places):
                yield self._request(Asked(number=number, prompt_tok=warmup.context_tok, output_tok=warmup.output_tok))

    def measured(self) -> Iterator[Request]:
        for index, asked in enumerate(self._asked()):
            if self._share.mine(index, self._load.batch):
                yield self._request(asked)

    def _asked(self) -> Iterator[Asked]:
        """All measured requests of the load, those of other processes included."""
        load = self._load
        if isinstance(load.arrivals, Replay):
            yield from self._replayed()
            return
        until_ns = None if load.seconds is None else int(load.seconds * 1e9)
        for index, at_ns in enumerate(islice(_starts(load), load.requests)):
            if at_ns is not None and until_ns is not None and at_ns >= until_ns:
                return
            prompt_tok, output_tok = self._lengths(index)
            yield Asked(number=self.first + index, prompt_tok=prompt_tok, output_tok=output_tok, at_ns=at_ns)

    def _replayed(self) -> Iterator[Asked]:
        for index, row in enumerate(self._trace):
            if self._load.seconds is not None and row.at_ns >= self._load.seconds * 1e9:
                return
            yield Asked(
                number=self.first + index, prompt_tok=row.context_tok, output_tok=row.output_tok, at_ns=row.at_ns
            )

    def _lengths(self, index: int) -> tuple[int, int]:
        """Drawn by the request's own seed: the same in whatever process, and whatever came before."""
        load = self._load
        output_tok = load.output.fixed
        if self._samples:
            output_tok = self._samples[(self.first + index) % len(self._samples)].output_tok or output_tok
            prompt_tok: int | None = 0
        else:
            prompt_tok = load.context.fixed
        if prompt_tok is not None and output_tok is not None:
            return prompt_tok, output_tok
        rng = random.Random(f"{load.seed}:{index}")  # noqa: S311 - no secret
        drawn = load.context.draw(rng), load.output.draw(rng)
        return drawn[0] if prompt_tok is None else prompt_tok, drawn[1] if output_tok is None else output_tok

    def _request(self, asked: Asked) -> Request:
        prompt = self._prompts.prompt(asked.number, asked.prompt_tok)
        return Request(
            number=asked.number,
            payload=self._wire.payload(prompt, asked.output_tok),
            prompt_tok=asked.prompt_tok,
            output_tok=asked.output_tok,
            at_ns=asked.at_ns,
        )

    def _made(self) -> Prompts:
        load = self._load
        longest_tok = max(load.context.longest, load.warmup.context_tok, *(row.context_tok for row in self._trace), 1)
        match load.prompts:
            case File(unique=unique):
                return SamplePrompts(self._samples, endpoint=load.endpoint, unique=load.nonce if unique else None)
            case Words(plan=plan):
                words = WordPrompts(
                    plan,
                    endpoint=load.endpoint,
                    seed=load.seed,
                    nonce=load.nonce,
                    longest_tok=longest_tok,
                    shared_tok=load.shared_tok,
                )
                _check_reach(words, load)
                return words
            case Ids(ids=ids, overhead_tok=overhead_tok):
                return self._of_ids(ids, overhead_tok, longest_tok)

    def _of_ids(self, ids: range | tuple[int, ...], overhead_tok: int, longest_tok: int) -> Prompts:
        load = self._load
        if self._trace:
            blocks = [None] * self.first + [row.blocks for row in self._trace]
            return BlockPrompts(
                ids,
                blocks,
                seed=load.seed,
                nonce=load.nonce,
                longest_tok=longest_tok,
                overhead_tok=overhead_tok,
            )
        made = TokenPrompts(
            ids,
            seed=load.seed,
            nonce=load.nonce,
            longest_tok=longest_tok,
            shared_tok=load.shared_tok,
            overhead_tok=overhead_tok,
        )
        _check_reach(made, load)
        return made


def wire(load: Workload) -> Wire:
    """How requests to the load's target are written.

    Raises:
        ValueError: a header, a path or a key cannot be sent.
    """
    target = load.target
    through = target.proxy is not None and not target.tls
    headers = dict(load.headers)
    if through and target.proxy_auth:
        headers["Proxy-Authorization"] = target.proxy_auth
    return Wire(
        host_header=target.authority,
        path_prefix=target.path,
        absolute=f"http://{target.authority}" if through else None,
        endpoint=load.endpoint,
        model=load.model,
        seed=load.seed,
        headers=headers,
        api_key=load.api_key,
        body=load.body,
    )


def _starts(load: Workload) -> Iterator[int | None]:
    if not isinstance(load.arrivals, OpenLoop):
        return (None for _ in count())
    found = load.arrivals
    return arrivals.offsets_ns(found.profile, found.process, burstiness=found.burstiness, seed=load.seed)


def _trace(load: Workload) -> tuple[TraceRequest, ...]:
    if not isinstance(load.arrivals, Replay):
        return ()
    return tuple(traces.read(load.arrivals.path, speed=load.arrivals.speed, limit=load.requests).requests)


def _samples(load: Workload) -> list[datasets.Sample]:
    return datasets.read(load.prompts.path) if isinstance(load.prompts, File) else []


def _check_reach(prompts: TokenPrompts | WordPrompts, load: Workload) -> None:
    """Refuses a load whose prompts cannot all differ, before it starts."""
    lengths = [(load.context.shortest, (load.requests or 0) + load.warmup.requests)]
    if load.warmup.requests:
        lengths.append((load.warmup.context_tok, load.warmup.requests))
    for context_tok, n in lengths:
        if prompts.reach(context_tok) < max(n, 1):
            raise ValueError(f"{n} prompts of {context_tok} tokens cannot all differ")
