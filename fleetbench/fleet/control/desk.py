"""A run's desk on a cluster: a named actor beside its controller, where other machines ask and say `cancel`.

The controller owns it, so it dies within 0.2 s of it. Its name makes a run's driver the only one on the cluster.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, PendingCallsLimitExceeded, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.control.parting import forget, keep
from fleetbench.fleet.control.sole import BeingDrivenError
from fleetbench.fleet.control.status import RunStatus
from fleetbench.fleet.control.telling import encode, line_of

PREFIX = "run:"
LINES = 10_000
"""Lines that a desk keeps; the whole log is in the warehouse's folder of control."""
PAGE = 1000
ANSWER_S = 5.0
"""How long a desk may take to answer; one whose node is cut off never does."""
LINGER_S = 1.5
"""Who watches asks more often."""
OPEN_S = 20.0
_RETRY_S = 0.1
_PENDING = 1000
"""Words on their way; beyond, a desk that takes none is not told any more."""


def desk_name(run_id: str) -> str:
    return PREFIX + run_id


class DeskActor:
    """Holds what the controller said, for whoever asks."""

    def __init__(self) -> None:
        self._status: str | None = None
        self._lines: deque[str] = deque(maxlen=LINES)
        self._said = 0
        self._cancel = False
        self._asked_at: float | None = None

    def tell(self, status_json: str) -> None:
        self._status = status_json

    def say(self, line: str) -> None:
        self._lines.append(line)
        self._said += 1

    def status(self) -> str | None:
        self._asked_at = time.monotonic()
        return self._status

    def lines(self, since: int) -> tuple[list[str], int]:
        """Lines from number `since` on, a page at most, and the number of the next; what is forgotten is skipped."""
        self._asked_at = time.monotonic()
        first = self._said - len(self._lines)
        start = min(max(since, first), self._said)
        page = [self._lines[number - first] for number in range(start, min(start + PAGE, self._said))]
        return page, start + len(page)

    def cancel(self) -> None:
        self._cancel = True

    def cancel_wanted(self) -> bool:
        return self._cancel

    def watched(self) -> bool:
        """Whether somebody asked lately, and will again."""
        return self._asked_at is not None and time.monotonic() - self._asked_at < LINGER_S

    def beat(self) -> None:
        """Answers, and that is all: the controller lives, and can be reached."""


@dataclass(slots=True, kw_only=True)
class Desk:
    """The controller's side: every word is sent and not waited for; where the actor died, another one takes over."""

    run_id: str
    actor: Any
    last: RunStatus | None = None
    _asked: Any = None
    _cancelled: bool = False
    _reopened_at: float = field(default_factory=time.monotonic)

    def tell(self, status: RunStatus) -> None:
        self.last = status
        self._send("tell", encode(status))

    def say(self, line: str) -> None:
        self._send("say", line_of(line))

    def cancel_wanted(self) -> bool:
        """Whether somebody asked for it, as far as the actor has answered; never waits."""
        if self._cancelled:
            return True
        if self._asked is None:
            self._asked = self._send("cancel_wanted")
            return False
        ready, _ = ray.wait([self._asked], timeout=0)
        if not ready:
            return False
        asked, self._asked = self._asked, None
        try:
            self._cancelled = bool(ray.get(asked))
        except RayActorError:
            self._reopen()
        except RayError:  # unanswered is no wish
            pass
        return self._cancelled

    def _send(self, method: str, *arguments: str) -> Any:
        with suppress(PendingCallsLimitExceeded):
            return getattr(self.actor, method).remote(*arguments)
        return None

    def _reopen(self) -> None:
        """Take another actor, once a second at most: the name may still be the dead one's."""
        if time.monotonic() - self._reopened_at < 1.0:
            return
        self._reopened_at = time.monotonic()
        with suppress(RayError, ValueError):
            self.actor = _create(self.run_id)
            if self.last is not None:
                self._send("tell", encode(self.last))


@contextmanager
def desk(run_id: str) -> Iterator[Desk]:
    """Open the run's desk on this driver's own node; this driver must be connected in fleetbench's namespace.

    Raises:
        BeingDrivenError: there is one: another driver drives the run.
        UnusableEnvironmentError: its process does not start.
    """
    opened = _open(run_id)
    try:
        yield opened
    except UnusableEnvironmentError:  # of a Ray that is gone; else the desk goes with this process
        raise
    except BaseException:
        _close(opened)
        raise
    _close(opened)


def _close(opened: Desk) -> None:
    """Who watches hears the last word before the desk is gone, and who asks later does from the cluster."""
    with suppress(RayError):  # a Ray that is gone took it along
        watched = ray.get(opened.actor.watched.remote(), timeout=ANSWER_S)
        if opened.last is not None:
            keep(opened.last)
        if watched:
            time.sleep(LINGER_S)
        ray.kill(opened.actor)


def _open(run_id: str) -> Desk:
    deadline = time.monotonic() + OPEN_S
    while True:
        try:
            actor = _create(run_id)
            break
        except ValueError as error:  # the name is taken
            if time.monotonic() > deadline or not _is_dying(run_id):
                raise BeingDrivenError(run_id) from error
            time.sleep(_RETRY_S)
    try:
        ray.get(actor.beat.remote(), timeout=OPEN_S)
    except RayError as error:
        with suppress(RayError):
            ray.kill(actor)
        raise UnusableEnvironmentError(
            f"a process for run {run_id} does not start on this machine's Ray node ({type(error).__name__}): "
            "see whether it has memory and disk left"
        ) from error
    forget(run_id)
    return Desk(run_id=run_id, actor=actor)


def _create(run_id: str) -> Any:
    actor_class: Any = ray.remote(num_cpus=0, max_restarts=0)(DeskActor)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return actor_class.options(
        name=PREFIX + run_id, scheduling_strategy=here, max_pending_calls=_PENDING, enable_task_events=False
    ).remote()


def _is_dying(run_id: str) -> bool:
    """Whether the name is only that of a desk whose driver is gone, which it is for some tenths of a second."""
    try:
        actor: Any = ray.get_actor(PREFIX + run_id)
        ray.get(actor.beat.remote(), timeout=ANSWER_S)
    except GetTimeoutError:
        return False
    except (RayActorError, ValueError):
        return True
    return False
