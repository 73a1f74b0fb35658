"""What every engine adapter takes and gives, and the pure parts that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from fleetbench.errors import FleetbenchError
from fleetbench.matrix.types import Checkpoint, Parallel, Recipe

Cause = Literal[
    "oom",
    "timeout",
    "crashed",
    "killed",
    "stopped",
    "port",
    "missing_file",
    "bad_model",
    "no_first_token",
    "unsupported",
    "disk",
    "arguments",
    "device",
    "runtime",
    "lost",
]
"""Why a launch failed, in a word: `killed` by somebody, or lost with its guard; `arguments` the engine does not know,
a `device` that is not there or not idle, a `runtime` (venv, container, program) that is not there or not whole, another
node that was `lost`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An engine over several nodes, as one of them sees it.

    nodes: how many; rank: of this one, 0 for the one that serves; address, port: where all ranks meet rank 0; own: the
    address of this one.
    """

    nodes: int
    rank: int
    address: str
    port: int
    own: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """What to start.

    model_path: a GGUF file, or a folder in Hugging Face layout; recipe: resolved, so that only `attention` and
    granularities may still say `auto`; dummy: random weights in the shape of config.json, where the engine has that;
    span: None for an engine on one node;
    slots: requests that are served at once; context_tok: tokens per slot, prompt and output together; threads:
    computing threads on a CPU, None for the free cores less one; args: what the node or the matrix adds to the
    engine's arguments; kernel: the one that the plan expects, None where it expects none; port: 0 for any free one;
    log: where the engine's output goes; timeout_s: from start to first token.
    """

    model_path: Path
    model_name: str
    checkpoint: Checkpoint
    recipe: Recipe
    dummy: bool = False
    parallel: Parallel = field(default_factory=Parallel)
    span: Span | None = None
    hardware: str = "local"
    slots: int
    context_tok: int
    threads: int | None
    seed: int
    args: tuple[str, ...] = ()
    kernel: str | None = None
    port: int = 0
    log: Path
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How an engine is started: its program with arguments, what its environment gains, and files it reads.

    argv: the bare name of the program first, which the runtime finds; files: name to text, written into the launch's
    private folder before the start; argv names them by their path; alias: what requests call the model, None for the
    specification's own name.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    alias: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One HTTP request to a running engine."""

    method: Literal["GET", "POST"]
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a running engine told of itself.

    log: its beginning, empty for a server that somebody else started; answers: by path, JSON or else text, None
    where it gave none, and `config.json` of the folder that it was told to load, None for a GGUF file and for a server
    that somebody else started; version: the receipt's.
    """

    log: str
    answers: Mapping[str, Any]
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """Where the time to the first token went, seconds; None where the engine does not say.

    read_s: weights from storage; load_s: the model made ready in memory beyond that; compile_s: kernels, graphs and
    warm-up; first_token_s: from health to the first token. They need not add up to the whole. storage: what the weights
    were read from, as `storage.kind` names it.
    """

    read_s: float | None = None
    load_s: float | None = None
    compile_s: float | None = None
    first_token_s: float | None = None
    storage: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What came up, by the engine's own words.

    requested, effective: the same keys where the engine says them; differences: a sentence for each thing asked for
    and not applied; ready_s, first_token_s: seconds since the process was started.
    """

    engine: str
    version: str
    base_url: str
    model_alias: str
    requested: dict[str, Any]
    effective: dict[str, Any]
    differences: tuple[str, ...]
    cold: ColdStart = ColdStart()
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

    def reset_cache(self) -> bool:
        """Empties the prefix cache; False where there is none or no way to; raises EngineUnreachableError."""

    def stop(self) -> None:
        """Ends the engine and all that it started; idempotent."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class EngineAdapter(Protocol):
    """One kind of engine, as values and pure functions; `start.py` does what acts, the same for all.

    name: as in matrices and in the catalog; package: the Python distribution whose version is the receipt, None
    where `version_argv` asks the program; health: answers 200 once it serves; asks: paths whose answers `effective`
    reads; reset: what empties the prefix cache, None where it is off or cannot be emptied; metrics: names that
    /metrics must have once a request was served, so that collecting is known to work; empty where it has none. Where
    that is another path, the adapter has `metrics_path` too.
    """

    @property
    def name(self) -> str: ...
    @property
    def package(self) -> str | None: ...
    @property
    def program(self) -> str: ...
    @property
    def version_argv(self) -> tuple[str, ...]: ...
    @property
    def health(self) -> str: ...
    @property
    def asks(self) -> tuple[str, ...]: ...
    @property
    def reset(self) -> Ask | None: ...
    @property
    def metrics(self) -> tuple[str, ...]: ...
    @property
    def signs(self) -> tuple[Sign, ...]:
        """Log lines that say why a start failed, before those that all engines share."""

    def command(self, spec: LaunchSpec, version: str, folder: Path, port: int) -> Command:
        """The start; raises LaunchError (`unsupported`, `arguments`) for what this version does not have."""

    def requested(self, spec: LaunchSpec) -> dict[str, Any]:
        """What `effective` must say if everything was applied."""

    def effective(self, said: Said) -> dict[str, Any]:
        """What runs, by the engine's own words; a key is None where it does not say."""

    def cold(self, log: str) -> ColdStart: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A log line and the cause that it means; `pattern` is a regular expression, case ignored."""

    cause: Cause
    pattern: str
    words: str


AT_LEAST = frozenset({"context_tok", "slots"})


def differences(requested: dict[str, Any], effective: dict[str, Any]) -> tuple[str, ...]:
    """A sentence for each thing that was asked for and is not what runs; more room than asked for is none."""
    found: list[str] = []
    for name, asked in requested.items():
        runs = effective.get(name)
        if runs is None:
            found.append(f"{name}: asked for {asked}, the engine does not say what it runs")
        elif runs != asked and not (name in AT_LEAST and isinstance(runs, int) and runs > asked):
            found.append(f"{name}: asked for {asked}, the engine runs {runs}")
    return tuple(found)
