"""One load on one server: probe it, send the load, say what came of it and whether that may be believed."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from fleetbench.bench.asked import Asked
from fleetbench.bench.probing import Probed, probe
from fleetbench.bench.server import Server
from fleetbench_collectors.clock import ClockPair, pair
from fleetbench_collectors.load.crew import Crew, Outcome
from fleetbench_collectors.load.target import Target
from fleetbench_collectors.load.workload import Ids, Workload

_EVERY_S = 0.25
_LOOK_S = 0.1
_DEFAULT_MODEL = "default"


class View(Protocol):
    """Who watches."""

    def say(self, text: str) -> None: ...

    def stopping(self) -> None: ...

    def watch(self, position: int, progress: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What was sent, and what came of it, before anything is computed.

    began, clock: just before the first measured request;
    before, after: the server's metrics, under canonical names; engine: which one it seems to be.
    """

    asked: Asked
    began: datetime
    clock: ClockPair
    workload: Workload
    probed: Probed | None
    probes: int
    outcome: Outcome
    before: list[tuple[str, float]]
    after: list[tuple[str, float]]
    engine: str | None


def send(asked: Asked, crew: Crew, *, view: View | None, stopped: Callable[[], bool]) -> Load:
    """Sends the load that was asked for.

    Raises:
        ValueError: it makes no sense, or a file of it.
        OSError: a file cannot be read.
        KeyboardInterrupt: it was stopped before anything was sent.
    """
    _check(asked, stopped)
    server = Server(asked.target, _headers(asked), timeout_s=asked.timeout_s)
    if view is not None:
        view.say("probing the server")
    model = asked.model or server.model() or _DEFAULT_MODEL
    probed = _probed(asked, model, stopped)
    prompts = asked.prompts_file if probed is None else probed.prompts
    if prompts is None:
        raise ValueError("no prompts")
    workload = asked.workload(model, prompts)
    before = server.metrics()
    if view is not None:
        view.say("warming up" if asked.warmup else "connecting")
    began, clock = datetime.now(UTC), pair()
    outcome = crew.run(workload, every_s=0.0 if view is None else _EVERY_S, watch=None if view is None else view.watch)
    after = server.metrics() if before else []
    return Load(
        asked=asked,
        began=began,
        clock=clock,
        workload=workload,
        probed=probed,
        probes=0 if probed is None else probed.requests,
        outcome=outcome,
        before=before,
        after=after,
        engine=server.engine() if before else None,
    )


def _check(asked: Asked, stopped: Callable[[], bool]) -> None:
    """Raises ValueError where no request could even begin: nobody knows the host, or a file has no certificates."""
    ca = asked.target.ca
    try:
        if asked.target.tls and ca is not None:
            ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ValueError(f"{ca} has no certificates in PEM: {error.strerror or error}") from error
    _resolve(asked.target, stopped)


def _resolve(target: Target, stopped: Callable[[], bool]) -> None:
    """In a thread: the C library waits for a name server as long as it likes, and hears no signal meanwhile."""
    failures: list[OSError] = []

    def ask() -> None:
        try:
            target.resolve()
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_S)
        if stopped():
            raise KeyboardInterrupt
    for error in failures:
        raise ValueError(f"{target.peer[0]} is not known: {error.strerror or error}") from error


def _headers(asked: Asked) -> dict[str, str]:
    auth = {} if asked.api_key is None else {"Authorization": f"Bearer {asked.api_key}"}
    return {**auth, **asked.headers}


def _probed(asked: Asked, model: str, stopped: Callable[[], bool]) -> Probed | None:
    """How prompts are made; None where a file has them."""
    if asked.prompts_file is not None:
        return None
    ids: range | tuple[int, ...] | None = None
    words: tuple[str, ...] = ()
    if asked.tokenizer is not None:
        from fleetbench_collectors.load import vocabulary  # noqa: PLC0415 - only where a folder is given

        found = vocabulary.read(asked.tokenizer)
        ids, words = found.ids, found.words
    empty = Ids(ids=range(1))
    return probe(asked.workload(model, empty), words=words, ids=ids, stopped=stopped)
