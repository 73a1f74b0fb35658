"""How a launch's rows reach the warehouse: written where it is mounted, handed to the controller where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from fleetbench.store.commit import Warehouse
from fleetbench.store.rows import Rows
from fleetbench.store.write import StoreError

Tables = Mapping[str, pa.Table | Rows]


class Keeper(Protocol):
    """Keeps rows; `Warehouse` says how."""

    def commit(self, table: str, rows: pa.Table | Rows, *, run_id: str, name: str) -> Path | None: ...

    def commit_trial(self, trial_row: Mapping[str, Any], measured: Tables) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsParcel:
    """A file of one table."""

    table: str
    rows: pa.Table | Rows
    run_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialParcel:
    """A trial's own row and all that it measured."""

    row: Mapping[str, Any]
    measured: Tables


Parcel = RowsParcel | TrialParcel


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """What a launch measured and its controller is to commit, before the events that follow."""

    launch_id: str
    parcels: tuple[Parcel, ...]


@dataclass(slots=True)
class Courier:
    """A keeper on a node that does not see the warehouse: what it is given waits to be handed over."""

    parcels: list[Parcel] = field(default_factory=list)

    def commit(self, table: str, rows: pa.Table | Rows, *, run_id: str, name: str) -> None:
        self.parcels.append(RowsParcel(table=table, rows=rows, run_id=run_id, name=name))

    def commit_trial(self, trial_row: Mapping[str, Any], measured: Tables) -> bool:
        self.parcels.append(TrialParcel(row=dict(trial_row), measured=dict(measured)))
        return True

    def take(self) -> tuple[Parcel, ...]:
        taken = tuple(self.parcels)
        self.parcels.clear()
        return taken


def deliver(handed: Handed, warehouse: Warehouse) -> dict[str, str]:
    """Commit what was handed over; trial_ids that could not be kept, with why."""
    failed: dict[str, str] = {}
    for parcel in handed.parcels:
        try:
            if isinstance(parcel, RowsParcel):
                warehouse.commit(parcel.table, parcel.rows, run_id=parcel.run_id, name=parcel.name)
            elif not warehouse.commit_trial(parcel.row, parcel.measured):
                failed[parcel.row["trial_id"]] = "this attempt is in the warehouse already"
        except StoreError as error:
            if isinstance(parcel, TrialParcel):
                failed[parcel.row["trial_id"]] = str(error)
    return failed
