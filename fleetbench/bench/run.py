"""One load on one server: probe it, send the load, say what came of it and whether that may be believed."""

from __future__ import annotations

import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from fleetbench.bench.asked import Asked
from fleetbench.bench.probing import Probed, probe
from fleetbench.bench.server import Server
from fleetbench_collectors.clock import ClockPair, pair
from fleetbench_collectors.load.crew import Crew, Outcome
from fleetbench_collectors.load.target import Address, Target
from fleetbench_collectors.load.words import Calibration
from fleetbench_collectors.load.workload import Ids, Replay, Workload

_EVERY_S = 0.25
_LOOK_S = 0.1
_DEFAULT_MODEL = "default"
_ASK_S = 6.0
"""For a plain GET, however slowly its answer trickles."""
_CONNECT_S = 3.0


Value = TypeVar("Value")


class View(Protocol):
    """Who watches."""

    def say(self, text: str) -> None: ...

    def stopping(self) -> None: ...

    def watch(self, position: int, progress: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What was sent, and what came of it, before anything is computed.

    began, clock: just before the server's metrics are read and then the first request is sent;
    before, after: the server's metrics, under canonical names; before_ns, after_ns: when they came, on the monotonic
    clock; engine: which one it seems to be.
    """

    asked: Asked
    began: datetime
    clock: ClockPair
    workload: Workload
    probed: Probed | None
    probes: int
    outcome: Outcome
    before: list[tuple[str, float]]
    before_ns: int
    after: list[tuple[str, float]]
    after_ns: int
    engine: str | None

    @property
    def calibrated(self) -> bool:
        """Whether the server counted what was asked for, and does so at every length of this load."""
        plan = None if self.probed is None else self.probed.calibration
        return plan is not None and plan.verified and (not self.varied or fits(plan))

    @property
    def varied(self) -> bool:
        """Whether prompts differ in length."""
        return self.asked.context.fixed is None or isinstance(self.asked.arrivals, Replay)


def fits(plan: Calibration) -> bool:
    """Whether prompts can be made to any length, not only to multiples of what a word costs."""
    return plan.cost_tok == 1 or plan.filler is not None


def send(asked: Asked, crew: Crew, *, view: View | None, stopped: Callable[[], bool]) -> Load:
    """Sends the load that was asked for.

    Raises:
        ValueError: it makes no sense, or a file of it.
        OSError: a file cannot be read.
        KeyboardInterrupt: it was stopped before anything was sent.
    """
    asked = replace(asked, target=_checked(asked.target, stopped))
    server = Server(asked.target, _headers(asked), timeout_s=asked.timeout_s)
    if view is not None:
        view.say("probing the server")
    model = asked.model or _meanwhile(server.model, stopped, _ASK_S) or _DEFAULT_MODEL
    probed = _probed(asked, model, stopped)
    workload = _workload(asked, model, probed)
    began, clock = datetime.now(UTC), pair()
    before, before_ns = _meanwhile(server.metrics, stopped, _ASK_S) or [], time.monotonic_ns()
    if view is not None:
        view.say("warming up" if asked.warmup else "connecting")
    outcome = crew.run(workload, every_s=0.0 if view is None else _EVERY_S, watch=None if view is None else view.watch)
    after = _meanwhile(server.metrics, _never, _ASK_S) if before else None
    after_ns = time.monotonic_ns()
    return Load(
        asked=asked,
        began=began,
        clock=clock,
        workload=workload,
        probed=probed,
        probes=0 if probed is None else probed.requests,
        outcome=outcome,
        before=before,
        before_ns=before_ns,
        after=after or [],
        after_ns=after_ns,
        engine=_meanwhile(server.engine, _never, _ASK_S) if before else None,
    )


def _workload(asked: Asked, model: str, probed: Probed | None) -> Workload:
    """The load with prompts as the probes found them, less what the server refuses."""
    if probed is not None:
        return asked.workload(model, probed.prompts, without=probed.refused)
    if asked.prompts_file is None:
        raise ValueError("no prompts")
    return asked.workload(model, asked.prompts_file)


def _checked(target: Target, stopped: Callable[[], bool]) -> Target:
    """Raises ValueError where no request could even begin: nobody knows the host, or a file has no certificates."""
    try:
        if target.tls and target.ca is not None:
            ssl.create_default_context(cafile=target.ca)
    except OSError as error:
        raise ValueError(f"{target.ca} has no certificates in PEM: {error.strerror or error}") from error
    return _resolved(target, stopped)


def _resolved(target: Target, stopped: Callable[[], bool]) -> Target:
    """In a thread: the C library waits for a name server as long as it likes, and hears no signal meanwhile."""
    found: list[Target] = []
    failures: list[OSError | UnicodeError] = []

    def ask() -> None:
        try:
            addresses = target.addresses()
        except (OSError, UnicodeError) as error:
            failures.append(error)
        else:
            found.append(reached(target, addresses))

    _meanwhile(ask, stopped, math.inf)
    if stopped():
        raise KeyboardInterrupt
    for error in failures:
        raise ValueError(f"{target.peer[0]} is not known: {getattr(error, 'strerror', None) or error}") from error
    return found[0]


def _meanwhile(ask: Callable[[], Value], stopped: Callable[[], bool], limit_s: float) -> Value | None:
    """What `ask` returns, in a thread; None where it takes too long, or where somebody stops it."""
    found: list[Value] = []
    thread = threading.Thread(target=lambda: found.append(ask()), daemon=True)
    thread.start()
    until_s = time.monotonic() + limit_s
    while thread.is_alive() and time.monotonic() < until_s:
        thread.join(_LOOK_S)
        if stopped():
            break
    return found[0] if found else None


def _never() -> bool:
    return False


def reached(target: Target, addresses: Sequence[Address]) -> Target:
    """The target at the first of its addresses that accepts a connection; as it is where none does, or there is one.

    A name may stand for addresses at which nobody listens: localhost is ::1 first, many servers have 127.0.0.1 alone.
    """
    for address in addresses if len(addresses) > 1 else ():
        family, where = address
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.settimeout(_CONNECT_S)
                sock.connect(where)
        except OSError:
            continue
        return replace(target, address=address)
    return target


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
