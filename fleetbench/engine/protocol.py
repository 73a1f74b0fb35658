"""What every engine adapter takes and gives, and the pure parts that they share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from fleetbench.errors import FleetbenchError
from fleetbench.matrix.types import EngineInfo, KvFormat

Cause = Literal[
    "oom",
    "timeout",
    "crashed",
    "stopped",
    "port",
    "missing_file",
    "bad_model",
    "no_first_token",
    "unsupported",
    "disk",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """What to start.

    kv: cache formats of keys and values; weights: the weight format that the model file should hold;
    slots: requests that are served at once; context_tok: tokens per slot, prompt and output together;
    threads: computing threads, None for the free cores less one; port: 0 for any free one;
    log: where the engine's output goes; timeout_s: from start to first token.
    """

    model_path: Path
    model_name: str
    kv: KvFormat
    weights: str
    slots: int
    context_tok: int
    threads: int | None
    seed: int
    port: int = 0
    log: Path
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What came up, by the engine's own words.

    requested, effective: the same keys where the engine says them; differences: a sentence for each
    thing asked for and not applied; ready_s, first_token_s: seconds since the process was started.
    """

    engine: str
    version: str
    base_url: str
    model_alias: str
    requested: dict[str, Any]
    effective: dict[str, Any]
    differences: tuple[str, ...]
    ready_s: float
    first_token_s: float
    threads: int


class LaunchError(FleetbenchError):
    """An engine that did not come up."""

    def __init__(self, engine: str, cause: Cause, reason: str, log_tail: str) -> None:
        super().__init__(engine, cause, reason, log_tail)
        self.engine = engine
        self.cause = cause
        self.reason = reason
        self.log_tail = log_tail

    def __str__(self) -> str:
        return f"{self.engine} did not come up: {self.reason}"


class EngineUnreachableError(FleetbenchError):
    """A session that does not answer; its `exit_reason` may say why."""


class Session(Protocol):
    """An engine that is up."""

    @property
    def receipt(self) -> Receipt: ...

    def alive(self) -> bool: ...

    def exit_cause(self) -> Cause | None:
        """None while it is up."""

    def exit_reason(self) -> str | None:
        """A sentence; None while it is up."""

    def log_tail(self, lines: int = 20) -> str: ...

    def metrics_text(self) -> str:
        """The engine's metrics as it serves them; raises EngineUnreachableError."""

    def stop(self) -> None:
        """Ends the engine and all that it started; idempotent."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class EngineAdapter(Protocol):
    """How to find and start one kind of engine."""

    @property
    def name(self) -> str: ...

    def info(self) -> EngineInfo: ...

    def availability(self) -> str | None:
        """None where it can be started, else why not and the remedy."""

    def launch(self, spec: LaunchSpec, lease: str) -> Session:
        """Starts it and returns once it gave a first token; raises LaunchError."""


AT_LEAST = frozenset({"context_tok", "slots"})


def differences(requested: dict[str, Any], effective: dict[str, Any]) -> tuple[str, ...]:
    """A sentence for each thing that was asked for and is not what runs; more room than asked for is none."""
    found: list[str] = []
    for name, asked in requested.items():
        runs = effective.get(name)
        if runs is None:
            found.append(f"{name}: asked for {asked}, the engine does not say what it runs")
        elif runs != asked and not (name in AT_LEAST and runs > asked):
            found.append(f"{name}: asked for {asked}, the engine runs {runs}")
    return tuple(found)
