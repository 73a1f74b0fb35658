"""The warehouse as writers see it: whole files or none, and a trial's own row last."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fleetbench.errors import FleetbenchError, UnusableEnvironmentError
from fleetbench.matrix.types import Outcome
from fleetbench.store import layout, parquet
from fleetbench.store.schema import SCHEMAS

_serial = itertools.count()
_MEASURED = {table for table, schema in SCHEMAS.items() if "trial_id" in schema.names} - {"trials"}


class StoreError(FleetbenchError):
    """Rows could not be kept; what was there before is untouched."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"cannot write {self.path}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedTrial:
    """What resuming needs to know of a trial that is in the warehouse."""

    trial_id: str
    attempt: int
    outcome: Outcome
    valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The committed trials of a run, every attempt, and the files that could not be read."""

    trials: tuple[CommittedTrial, ...]
    skipped: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Warehouse:
    """A folder of immutable Parquet files that many processes may write to."""

    root: Path

    def create(self) -> None:
        """Make the folders, prove that they can be written to, and clear what dead writers left.

        Raises:
            UnusableEnvironmentError: read-only, no room, or not a folder.
        """
        try:
            for table in SCHEMAS:
                (self.root / "landing" / table).mkdir(parents=True, exist_ok=True)
            (self.root / "locks").mkdir(exist_ok=True)
            probe = self.root / "landing" / layout.tmp_name("probe", next(_serial))
            _write(probe, b"probe")
            probe.unlink()
        except StoreError as error:
            raise UnusableEnvironmentError(f"the warehouse cannot be used: {error}") from error
        except OSError as error:
            raise UnusableEnvironmentError(f"the warehouse {self.root} cannot be used: {_sentence(error)}") from error
        self.sweep_tmp()

    def commit(self, table: str, rows: pa.Table | parquet.Rows, *, run_id: str, name: str) -> Path:
        """Write one file of `table`; where `name` is taken, beside it as `name~1`: nothing is replaced.

        Raises:
            ValueError: the rows do not fit the table's schema.
            StoreError: no room, no rights; nothing of it is visible.
        """
        data = parquet.encode(parquet.conform(table, rows))
        folder = layout.landing(self.root, table, run_id)
        with _staged(folder, name, data) as tmp, self._locked(run_id):
            target = _free(folder, name)
            _publish(tmp, target)
        return target

    def commit_trial(self, trial_row: Mapping[str, Any], measured: Mapping[str, pa.Table | parquet.Rows]) -> bool:
        """Write all that a trial measured, then its own row, which is the commit point.

        What an attempt left that died before its commit point is replaced.

        Returns:
            False where this attempt of the trial is committed already: the first one stands.

        Raises:
            ValueError: rows that do not fit, or that are of another trial or attempt.
            StoreError: no room, no rights; the trial is not committed.
        """
        run_id, name = trial_row["run_id"], layout.trial_name(trial_row["trial_id"], trial_row["attempt"])
        tables = {table: parquet.conform(table, rows) for table, rows in measured.items()}
        for table, rows in tables.items():
            _check_key(table, rows, trial_row)
        tables["trials"] = parquet.conform("trials", [trial_row])
        with contextlib.ExitStack() as stack:
            moves = [
                (
                    stack.enter_context(_staged(folder, name, parquet.encode(rows))),
                    folder / f"{name}.parquet",
                )
                for table, rows in tables.items()
                for folder in (layout.landing(self.root, table, run_id),)
            ]
            stack.enter_context(self._locked(run_id))
            if moves[-1][1].exists():
                return False
            self._forget(run_id, name, keep=tables)
            for tmp, target in moves:
                _publish(tmp, target)
        return True

    def scan(self, run_id: str) -> Scan:
        """Every committed attempt of a run; a file that is cut short or foreign is skipped and named."""
        found: list[CommittedTrial] = []
        skipped: list[Path] = []
        for path in sorted(layout.landing(self.root, "trials", run_id).glob("*.parquet")):
            try:
                found.extend(_read_trials(path))
            except ValueError:
                skipped.append(path)
        return Scan(trials=tuple(found), skipped=tuple(skipped))

    def committed(self, run_id: str) -> list[CommittedTrial]:
        """Every committed attempt of a run's trials; see `best` for the one that counts."""
        return list(self.scan(run_id).trials)

    def attempts(self, run_id: str) -> dict[str, int]:
        """The first attempt number that no file of a trial has, readable or not, by trial_id."""
        following: dict[str, int] = {}
        for path in layout.landing(self.root, "trials", run_id).glob("*.parquet"):
            trial_id, _, number = path.stem.rpartition("-")
            if trial_id and number.isdecimal():
                following[trial_id] = max(following.get(trial_id, 0), int(number) + 1)
        return following

    def sweep_tmp(self) -> list[Path]:
        """Remove the temporary files of writers that are dead."""
        swept = []
        for path in (self.root / "landing").rglob(f"*{layout.TMP_SUFFIX}"):
            if layout.is_leftover(path):
                path.unlink(missing_ok=True)
                swept.append(path)
        return swept

    def _forget(self, run_id: str, name: str, *, keep: Iterable[str]) -> None:
        """What an uncommitted attempt of the same number left in tables that this one does not write."""
        for table in _MEASURED.difference(keep):
            path = layout.landing(self.root, table, run_id) / f"{name}.parquet"
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(str(path), _sentence(error)) from error

    @contextlib.contextmanager
    def _locked(self, run_id: str) -> Iterator[None]:
        """Only the renames of one run are one after another; encoding and fsync happen before."""
        path = self.root / "locks" / f"{run_id}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(str(path), _sentence(error)) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def best(trials: Iterable[CommittedTrial]) -> dict[str, CommittedTrial]:
    """The attempt that counts, by trial: best outcome, then the last. The view `trials` says the same in SQL."""
    ordered = sorted(trials, key=lambda trial: (-_rank(trial), trial.attempt))
    return {trial.trial_id: trial for trial in ordered}


def _rank(trial: CommittedTrial) -> int:
    match trial.outcome:
        case Outcome.OK:
            return 0 if trial.valid else 1
        case Outcome.INVALID | Outcome.NOT_APPLIED:
            return 1
        case Outcome.LOST | Outcome.CANCELLED:
            return 3
        case _:
            return 2


def _read_trials(path: Path) -> list[CommittedTrial]:
    """By the whole file, as the views do: a trial that they leave out has to be measured again."""
    rows = parquet.read_whole(path, "trials").select(CommittedTrial.__slots__).to_pylist()
    return [CommittedTrial(**{**row, "outcome": Outcome(row["outcome"])}) for row in rows]


def _check_key(table: str, rows: pa.Table, trial: Mapping[str, Any]) -> None:
    for column in ("run_id", "trial_id", "attempt"):
        if column not in rows.schema.names:
            raise ValueError(f"{table} is not measured by a trial: commit it apart")
        if others := set(rows[column].unique().to_pylist()) - {trial[column]}:
            raise ValueError(f"{table} has rows of {column} {others}, not of {trial[column]}")


def _free(folder: Path, name: str) -> Path:
    names = itertools.chain([name], (f"{name}~{n}" for n in itertools.count(1)))
    return next(path for path in (folder / f"{one}.parquet" for one in names) if not path.exists())


@contextlib.contextmanager
def _staged(folder: Path, name: str, data: pa.Buffer) -> Iterator[Path]:
    """The bytes on disk under a temporary name; gone afterwards unless it was published."""
    tmp = folder / layout.tmp_name(layout.checked(name), next(_serial))
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(str(folder), _sentence(error)) from error
        _write(tmp, data)
        yield tmp
    finally:
        with contextlib.suppress(OSError):
            tmp.unlink(missing_ok=True)


def _write(path: Path, data: pa.Buffer | bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(str(path), _sentence(error)) from error


def _publish(tmp: Path, target: Path) -> None:
    """Durable before the next one starts, so that no trial's row survives a power cut without its tables."""
    try:
        tmp.replace(target)
        handle = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(str(target), _sentence(error)) from error


def _sentence(error: OSError) -> str:
    if error.errno in layout.NO_ROOM:
        return f"no room left ({error.strerror}): free some, or choose another with --warehouse"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"it is not writable ({error.strerror}): choose another with --warehouse"
    return f"{error.strerror or error}: choose another with --warehouse"
