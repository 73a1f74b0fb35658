"""A run as another shell sees it: what its controller says, held against whether that controller is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from fleetbench.fleet.control.journal import control, read_lines, read_status, request_cancel
from fleetbench.fleet.control.sole import is_driven
from fleetbench.fleet.control.status import RunStatus
from fleetbench.fleet.control.telling import BrokenStatusError

Condition = Literal["starting", "running", "waiting", "ended", "interrupted", "failed", "gone", "silent", "unknown"]
"""starting: driven, and without a word yet; failed: its job ended before its controller began; gone: its controller
died; silent: it does not answer; unknown: a broken status."""
DRIVEN: frozenset[Condition] = frozenset({"starting", "running", "waiting", "silent"})

UNRECORDED = "nobody measures it, and no record is left of who did (fleetbench runs shows what it has)"
STARTING = "its controller has begun, and has started no launch yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A run at one moment.

    status: the last that is known; why: in a sentence, where the condition needs one; on_cluster: seen there, by its
    desk or its job; run, matrix, warehouse: as RunStatus has them, where there is none.
    """

    run_id: str
    condition: Condition
    status: RunStatus | None
    why: str | None = None
    on_cluster: bool = False
    run: str = ""
    matrix: str = ""
    warehouse: str | None = None

    @property
    def driven(self) -> bool:
        return self.condition in DRIVEN

    @property
    def names(self) -> tuple[str, str, str]:
        """run_id, run and matrix, as a run is looked up by."""
        named = self.status or self
        return (self.run_id, named.run, named.matrix)

    @property
    def results(self) -> str | None:
        """The folder that its results are in, as its controller's host sees it."""
        return self.status.warehouse if self.status else self.warehouse


class Source(Protocol):
    """Where one run is seen, and asked to stop."""

    def look(self) -> Sighting: ...

    def lines(self, since: int) -> tuple[list[str], int]:
        """Lines of its log from a place on, a page at most, and the place of the next one."""
        ...

    def cancel(self) -> None: ...


@dataclass(frozen=True, slots=True)
class InWarehouse:
    """A run by its folder of control: of this machine, or of any that shares the warehouse."""

    warehouse: Path
    run_id: str

    def look(self) -> Sighting:
        seen = self._seen()
        return self._seen() if seen.condition == "gone" else seen  # it may have begun, or ended, while it was looked at

    def _seen(self) -> Sighting:
        driven = is_driven(self.warehouse, self.run_id)
        try:
            status = read_status(self._folder)
        except BrokenStatusError as error:
            return Sighting(run_id=self.run_id, condition="unknown", status=None, why=str(error))
        if status is None and not driven and not self._folder.is_dir():
            return Sighting(run_id=self.run_id, condition="unknown", status=None, why=UNRECORDED)
        condition, why = judge(status, driven=driven)
        return Sighting(run_id=self.run_id, condition=condition, status=status, why=why)

    def lines(self, since: int) -> tuple[list[str], int]:
        return read_lines(self._folder, since)

    def cancel(self) -> None:
        request_cancel(self._folder)

    @property
    def _folder(self) -> Path:
        return control(self.warehouse, self.run_id)


def judge(status: RunStatus | None, *, driven: bool | None) -> tuple[Condition, str | None]:
    """What a status is worth; driven: whether a process holds the run, None where that is not known."""
    if status is None and driven:
        return "starting", STARTING
    if status is None:
        return "gone", "its controller went before it started a launch"
    if status.state in ("running", "waiting") and driven is False:
        return "gone", f"its controller (process {status.pid} on {status.host}) is gone without a last word"
    return status.state, None


def runs_in_warehouse(warehouse: Path) -> list[Sighting]:
    """The runs that have a folder of control, the latest first."""
    try:
        folders = sorted(path.name for path in (warehouse / "control").iterdir() if path.is_dir())
    except OSError:
        return []
    found = []
    for run_id in folders:
        try:
            found.append(InWarehouse(warehouse, run_id).look())
        except ValueError:  # no name of a run
            continue
    return sorted(found, key=lambda one: -(one.status.updated_s if one.status else 0.0))
