"""Where the commands about runs that are being driven look for them: a warehouse's folder, or a cluster's desks."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from fleetbench.cli.main import give_up
from fleetbench.cli.options import address_option, token_option, warehouse_option
from fleetbench.errors import InputError

if TYPE_CHECKING:
    from fleetbench.fleet.control.sighting import Sighting, Source

Command = TypeVar("Command", bound=Callable[..., Any])


def place_options(command: Command) -> Command:
    """`--address`, `--token` and `--warehouse`."""
    return address_option(token_option(warehouse_option(command)))


run_argument = click.argument("run", metavar="RUN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """On a cluster its desks, and beside them the warehouse that was named; without a cluster the warehouse alone."""

    address: str | None
    warehouse: Path | None

    def runs(self, *, jobs: bool = False) -> list[Sighting]:
        """Each run once; those that are driven first; jobs: of those that have begun no launch too."""
        from fleetbench.fleet.control.sighting import runs_in_warehouse

        seen: list[Sighting] = []
        sent: list[Sighting] = []
        if self.address is not None:
            from fleetbench.fleet.control.visiting import runs_on_cluster
            from fleetbench.fleet.jobs.table import runs_of_jobs

            sent = runs_of_jobs() if jobs else []
            seen = [*runs_on_cluster(), *(one for one in sent if one.driven)]
        if self.warehouse is not None:
            seen += runs_in_warehouse(self.warehouse)
        if self.address is not None:
            from fleetbench.fleet.control.visiting import runs_that_left

            seen += [*runs_that_left(), *sent]
        found: dict[str, Sighting] = {}
        for one in seen:
            found.setdefault(one.run_id, one)
        return sorted(found.values(), key=lambda one: not one.driven)

    def find(self, run: str, *, jobs: bool = False) -> Sighting:
        """The run that is meant; of several, the one that is being driven.

        Raises:
            InputError: no such run, or several.
        """
        from fleetbench.report.runs import hits

        runs = {seen.run_id: seen for seen in self.runs(jobs=jobs)}
        meant = hits(run, [seen.names for seen in runs.values()])
        driven = [run_id for run_id in meant if runs[run_id].driven]
        for found in (driven, meant):
            if len(found) == 1:
                return runs[found[0]]
            if found:
                raise InputError((f"{run} may be any of {', '.join(found)}: give a run_id",))
        if not jobs and self.address is not None:
            self._check_sent(run)
        return self._measured(run)

    def source(self, seen: Sighting) -> Source:
        """Where the run is to be asked."""
        from fleetbench.fleet.control.sighting import InWarehouse

        if seen.on_cluster:
            from fleetbench.fleet.control.visiting import OnCluster

            return OnCluster(seen.run_id)
        return InWarehouse(self.warehouse or Path(), seen.run_id)

    def _check_sent(self, run: str) -> None:
        """Of a run that has begun no launch there is nothing to be seen but how its job stands.

        Raises:
            InputError: it is such a one.
        """
        from fleetbench.report.runs import hits

        sent = {seen.run_id: seen for seen in self.runs(jobs=True)}
        meant = hits(run, [seen.names for seen in sent.values()])
        if len(meant) == 1:
            seen = sent[meant[0]]
            raise InputError((f"run {seen.run_id} is not being measured: {seen.why or seen.condition}",))

    def _measured(self, run: str) -> Sighting:
        """A run that is only in the warehouse's tables: nobody drives it, and it left no status."""
        from fleetbench.fleet.control.sighting import InWarehouse
        from fleetbench.report.runs import resolve
        from fleetbench.store.connection import connect

        if self.warehouse is None:
            why = (
                f"the cluster at {self.address} knows no run {run}: `fleetbench status --address {self.address}` lists "
                f"those that it does; one that ended long ago is found by `fleetbench status {run} --warehouse DIR`"
            )
            raise InputError((why,))
        with connect(self.warehouse) as connection:
            (run_id,) = resolve(connection, (run,))
        return InWarehouse(self.warehouse, run_id).look()


@contextmanager
def looking(address: str | None, token: Path | None, warehouse: Path, *, both: bool = False) -> Iterator[Place]:
    """Look at a warehouse, or at a cluster that this machine is in; at both where both are named, or wanted."""
    if address is None:
        yield Place(address=None, warehouse=warehouse)
        return
    from fleetbench.fleet.nodes.connection import connected

    with connected(address, token, give_up) as head:
        yield Place(address=head.address, warehouse=warehouse if both or warehouse_given() else None)


def warehouse_given() -> bool:
    """Whether `--warehouse` was typed: one of this machine's settings is none of the cluster's."""
    with suppress(RuntimeError):
        context = click.get_current_context()
        return context.get_parameter_source("warehouse") is ParameterSource.COMMANDLINE
    return False


def is_url(address: str | None) -> bool:
    return address is not None and "://" in address


def again(verb: str, run: str, *, address: str | None, token: Path | None, warehouse: Path | None = None) -> str:
    """The command line of a verb on the same run."""
    named = {"--address": address, "--token": token, "--warehouse": warehouse}
    words = [word for option, value in named.items() if value is not None for word in (option, str(value))]
    return shlex.join(["fleetbench", verb, run, *words])


@contextmanager
def leaving() -> Iterator[None]:
    """SIGTERM leaves as Ctrl-C does."""

    def leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
