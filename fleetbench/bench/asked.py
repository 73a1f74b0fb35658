"""What `fleetbench bench` was asked for."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
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

    def workload(self, model: str, prompts: Ids | Words | File) -> Workload:
        """The load on a server that calls its model so."""
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
            body=self.body,
            kernel=self.kernel,
        )
