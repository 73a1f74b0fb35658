"""Loads on the truth server, as `fleetbench bench` asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fleetbench.bench.asked import Asked
from fleetbench.bench.probing import Probed
from fleetbench.bench.run import Load, send
from fleetbench_collectors.clock import ClockPair
from fleetbench_collectors.load.crew import Crew, Outcome
from fleetbench_collectors.load.lengths import parse
from fleetbench_collectors.load.tally import Tally
from fleetbench_collectors.load.target import Target
from fleetbench_collectors.load.workload import Ids
from tests.samples import START, Row, records_of, request_row


def never() -> bool:
    return False


def asked(url: str, **changes: Any) -> Asked:
    values: dict[str, Any] = {
        "url": url,
        "target": Target.parse(url),
        "endpoint": "completions",
        "model": None,
        "batch": 2,
        "arrivals": None,
        "load": "batch 2",
        "in_flight_max": 64,
        "requests": 6,
        "seconds": None,
        "context": parse("32"),
        "output": parse("4"),
        "warmup": 0,
        "shared_tok": 0,
        "prompts_file": None,
        "tokenizer": None,
        "slo": None,
        "processes": 1,
        "timeout_s": 20.0,
        "seed": 0,
        "headers": {},
        "api_key": None,
        "body": {},
        "kernel": True,
    }
    return Asked(**values | changes)


def sent(load: Asked, *, stopped: Callable[[], bool] = never) -> Load:
    with Crew(load.processes) as crew:
        return send(load, crew, view=None, stopped=stopped)


def row(number: int, outcome: str = "ok", **changes: Any) -> Row:
    """A request of 32 and 4 tokens that was alone in its 10 ms; without stamps of an answer where it failed."""
    start_ns = 10_000_000 * number
    stamps = {"intended_ns": start_ns, "start_ns": start_ns, "error": None if outcome == "ok" else f"{outcome} words"}
    said = {"asked_prompt_tok": 32, "prompt_tok": 32, "asked_output_tok": 4, "output_tok": 4}
    if outcome != "ok":
        unknown = dict.fromkeys(("first_token_ns", "last_token_ns", "end_ns", "prompt_tok", "output_tok"))
        return {**request_row(number, ()), **said, "outcome": outcome, **stamps, **unknown, **changes}
    ends = {"first_byte_ns": 1_000_000, "first_token_ns": 1_000_000, "last_token_ns": 7_000_000, "end_ns": 7_000_000}
    stamps |= {name: start_ns + after_ns for name, after_ns in ends.items()}
    return {**request_row(number, (2000, 2000, 2000)), **said, **stamps, **changes}


def loaded(rows: Sequence[Row], *, failures: Sequence[str] = (), probed: Probed | None = None, **changes: Any) -> Load:
    """A load that was sent already: its rows, and what its processes said of their end."""
    asks = asked("http://127.0.0.1:1", **changes)
    tally = Tally(cpu_s=0.1, wall_s=1.0, stamped_kernel=9, stamped_user=0, lag_us=[10], step_ns=0)
    records = records_of(rows)
    records.errors = {at: each["error"] for at, each in enumerate(rows) if each["error"]}
    return Load(
        asked=asks,
        began=START,
        clock=ClockPair(wall_ns=0, mono_ns=0),
        workload=asks.workload("m", asks.prompts_file or Ids(ids=range(9))),
        probed=probed,
        probes=0,
        outcome=Outcome(records=records, tallies=[tally], failures=list(failures), zero_ns=0),
        before=[],
        before_ns=0,
        after=[],
        after_ns=0,
        engine=None,
    )
