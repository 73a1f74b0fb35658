"""What `fleetbench bench` was asked for."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fleetbench_collectors.load.lengths import Lengths
from fleetbench_collectors.load.target import Target
from fleetbench_collectors.load.wire import Endpoint
from fleetbench_collectors.load.workload import File, Ids, OpenLoop, Replay, Warmup, Words, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The command's options, checked one by one.

    model: None for the first that the server has; batch: requests held in flight, None in an open loop;
    in_flight_max: bound of an open loop; requests, seconds: at least one of them, or a trace that ends;
    prompts_file: None for prompts made to length; tokenizer: folder of the model's, None to go by the server's
    own counts; slo: targets as `slo.parse` takes them; kernel: kernel receive stamps where they are to be had.
    """

    url: str
    target: Target
    endpoint: Endpoint
    model: str | None
    batch: int | None
    arrivals: OpenLoop | Replay | None
    load: str
    in_flight_max: int
    requests: int | None
    seconds: float | None
    context: Lengths
    output: Lengths
    warmup: int
    shared_tok: int
    prompts_file: File | None
    tokenizer: str | None
    slo: str | None
    processes: int
    timeout_s: float
    seed: int
    headers: Mapping[str, str]
    api_key: str | None
    body: Mapping[str, Any]
    kernel: bool

    @property
    def rate_per_s(self) -> float | None:
        """Of an open loop whose rate stays the same."""
        if not isinstance(self.arrivals, OpenLoop) or len(self.arrivals.profile.segments) != 1:
            return None
        segment = self.arrivals.profile.segments[0]
        return segment.start_per_s if segment.start_per_s == segment.end_per_s else None

    def described(self) -> dict[str, Any]:
        """What the result repeats of the options, as JSON; not the headers and the API key, which open doors."""
        loop = self.arrivals if isinstance(self.arrivals, OpenLoop) else None
        trace = self.arrivals if isinstance(self.arrivals, Replay) else None
        file = self.prompts_file
        return {
            "requests": self.requests,
            "seconds": self.seconds,
            "warmup": self.warmup,
            "timeout_s": self.timeout_s,
            "shared_prefix_tok": self.shared_tok,
            "tokenizer": self.tokenizer,
            "prompts": None if file is None else file.path,
            "unique": None if file is None else file.unique,
            "max_in_flight": None if self.arrivals is None else self.in_flight_max,
            "arrivals": loop.process if loop is not None else trace and "trace",
            "burstiness": loop.burstiness if loop is not None and loop.process == "gamma" else None,
            "profile": None if loop is None else [asdict(segment) for segment in loop.profile.segments],
            "trace": None if trace is None else trace.path,
            "speed": None if trace is None else trace.speed,
            "body": dict(self.body),
            "slo": self.slo,
            "stamp": "auto" if self.kernel else "user",
            "way": self.target.way,
        }

    def workload(self, model: str, prompts: Ids | Words | File, *, without: Iterable[str] = ()) -> Workload:
        """The load on a server that calls its model so; `without`: keys of the body that are not sent."""
        return Workload(
            target=self.target,
            endpoint=self.endpoint,
            model=model,
            places=self.batch or self.in_flight_max,
            arrivals=self.arrivals,
            requests=self.requests,
            seconds=self.seconds,
            context=self.context,
            output=self.output,
            prompts=prompts,
            seed=self.seed,
            nonce=secrets.token_hex(8),
            request_timeout_s=self.timeout_s,
            shared_tok=self.shared_tok,
            warmup=Warmup(requests=self.warmup, context_tok=self.context.shortest, output_tok=self.output.shortest),
            headers=self.headers,
            api_key=self.api_key,
            body={**self.body, **dict.fromkeys(without)},
            kernel=self.kernel,
        )
