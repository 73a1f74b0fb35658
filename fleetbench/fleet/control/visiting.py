"""Another process's side of the desks on a cluster that it is connected to."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util import list_named_actors

from fleetbench.errors import FleetbenchError, UnusableEnvironmentError
from fleetbench.fleet.control.desk import ANSWER_S, PREFIX
from fleetbench.fleet.control.parting import FINAL, last_word, last_words
from fleetbench.fleet.control.sighting import STARTING, Sighting
from fleetbench.fleet.control.status import RunStatus
from fleetbench.fleet.control.telling import BrokenStatusError, decode


class DeskClosedError(FleetbenchError):
    """The run has no desk on the cluster: it is not driven there."""


class DeskSilentError(UnusableEnvironmentError):
    """The run's desk does not answer; its controller may live."""


@dataclass(slots=True)
class OnCluster:
    """A run by its desk; every question waits for its answer, ANSWER_S at most."""

    run_id: str
    _actor: Any = None
    _last: RunStatus | None = None

    def look(self) -> Sighting:
        """How it stands; once its desk is gone, by the last that it said."""
        try:
            said = self._ask("status")
            self._last = decode(said) if said else None
        except DeskClosedError:
            return self._without_desk()
        except DeskSilentError as error:
            return Sighting(on_cluster=True, run_id=self.run_id, condition="silent", status=self._last, why=str(error))
        except BrokenStatusError as error:
            return Sighting(on_cluster=True, run_id=self.run_id, condition="unknown", status=None, why=str(error))
        return sighting(self.run_id, self._last)

    def lines(self, since: int) -> tuple[list[str], int]:
        """As `Source.lines`; none once the desk is gone."""
        try:
            page: tuple[list[str], int] = self._ask("lines", since)
        except DeskClosedError:
            return [], since
        return page

    def cancel(self) -> None:
        """Ask its controller to stop.

        Raises:
            DeskClosedError: there is none.
            DeskSilentError: it does not answer.
        """
        self._ask("cancel")

    def _without_desk(self) -> Sighting:
        if self._last is None or self._last.state not in FINAL:
            self._last = last_word(self.run_id) or self._last
        if self._last is not None and self._last.state in FINAL:
            return Sighting(on_cluster=True, run_id=self.run_id, condition=self._last.state, status=self._last)
        why = "its controller has left the cluster without a last word"
        return Sighting(on_cluster=True, run_id=self.run_id, condition="gone", status=self._last, why=why)

    def _ask(self, method: str, *arguments: object) -> Any:
        try:
            if self._actor is None:
                self._actor = ray.get_actor(PREFIX + self.run_id)
            return ray.get(getattr(self._actor, method).remote(*arguments), timeout=ANSWER_S)
        except ValueError as error:
            raise DeskClosedError(f"run {self.run_id} is not being driven on this cluster") from error
        except GetTimeoutError as error:
            raise DeskSilentError(
                f"the controller of run {self.run_id} has not answered for {ANSWER_S:g} s: see whether its node is up"
            ) from error
        except RayActorError as error:
            self._actor = None  # a controller that goes on has a new one
            raise DeskClosedError(f"the controller of run {self.run_id} is gone") from error


def sighting(run_id: str, status: RunStatus | None) -> Sighting:
    """A run that has a desk."""
    if status is None:
        return Sighting(on_cluster=True, run_id=run_id, condition="starting", status=None, why=STARTING)
    return Sighting(on_cluster=True, run_id=run_id, condition=status.state, status=status)


def runs_on_cluster() -> list[Sighting]:
    """The runs that are being driven on the cluster."""
    asked: dict[str, Any] = {}
    for name in list_named_actors():
        if name.startswith(PREFIX):
            with suppress(ValueError):  # gone in between
                actor: Any = ray.get_actor(name)
                asked[name.removeprefix(PREFIX)] = actor.status.remote()
    if asked:
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
    found = [_answered(run_id, answer) for run_id, answer in asked.items()]
    return sorted((run for run in found if run is not None), key=lambda run: run.run_id)


def runs_that_left() -> list[Sighting]:
    """The runs that have ended on the cluster, as far as it knows, the latest first."""
    return [sighting(status.run_id, status) for status in last_words()]


def _answered(run_id: str, answer: Any) -> Sighting | None:
    try:
        said = ray.get(answer, timeout=0)
        return sighting(run_id, decode(said) if said else None)
    except GetTimeoutError:
        why = f"its controller has not answered for {ANSWER_S:g} s"
        return Sighting(on_cluster=True, run_id=run_id, condition="silent", status=None, why=why)
    except RayActorError:  # ended in between
        return None
    except BrokenStatusError as error:
        return Sighting(on_cluster=True, run_id=run_id, condition="unknown", status=None, why=str(error))
