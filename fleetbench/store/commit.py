"""The warehouse as writers see it: whole files or none, and a trial's own row last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.matrix.types import Outcome
from fleetbench.store import layout, parquet
from fleetbench.store.manifest import Manifest, latest, trials_of
from fleetbench.store.rows import Rows, conform
from fleetbench.store.schema import SCHEMAS
from fleetbench.store.write import StoreError, discard, locked, publish, sentence, staged, tmp_path, write

_BULK = "bulk-"
_MEASURED = {table for table, schema in SCHEMAS.items() if "trial_id" in schema.names} - {"trials"}


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
            probe = tmp_path(self.root / "landing", "probe")
            write(probe, b"probe")
            probe.unlink()
        except StoreError as error:
            raise UnusableEnvironmentError(f"the warehouse cannot be used: {error}") from error
        except OSError as error:
            raise UnusableEnvironmentError(f"the warehouse {self.root} cannot be used: {sentence(error)}") from error
        self.sweep_tmp()

    def commit(self, table: str, rows: pa.Table | Rows, *, run_id: str, name: str) -> Path:
        """Write one file of `table`; beside others of that name where its content differs, nothing where it does not.

        Raises:
            ValueError: the rows do not fit the table's schema.
            StoreError: no room, no rights; nothing of it is visible.
        """
        data = parquet.encode(table, conform(table, rows))
        target = _target(layout.landing(self.root, table, run_id), name, data)
        if not target.exists():
            with staged(target.parent, name, data) as tmp, locked(self.root, run_id):
                publish(tmp, target)
        return target

    def commit_trial(self, trial_row: Mapping[str, Any], measured: Mapping[str, pa.Table | Rows]) -> bool:
        """Write all that a trial measured, then its own row, which is the commit point.

        What an attempt left that died before its commit point is replaced.

        Returns:
            False where this attempt of the trial is committed already: the first one stands.

        Raises:
            ValueError: rows that do not fit, or that are of another trial or attempt.
            StoreError: no room, no rights; the trial is not committed.
        """
        name = layout.trial_name(trial_row["trial_id"], trial_row["attempt"])
        return self._commit_trials([trial_row], measured, name)

    def commit_trials(self, trial_rows: Sequence[Mapping[str, Any]], measured: Mapping[str, pa.Table | Rows]) -> bool:
        """The same of many trials of one run at once: a file a table, their own rows last.

        Returns:
            False where one of them is committed already: nothing is written.

        Raises:
            ValueError: no trial, or trials of several runs; else as `commit_trial`.
            StoreError: no room, no rights; no trial is committed.
        """
        if len({row["run_id"] for row in trial_rows}) != 1:
            raise ValueError("trials that are committed at once are of one run")
        names = sorted(layout.trial_name(row["trial_id"], row["attempt"]) for row in trial_rows)
        name = f"{_BULK}{_sha(' '.join(names).encode())[: layout.HASH_DIGITS]}"
        return self._commit_trials(trial_rows, measured, name)

    def _commit_trials(
        self, trial_rows: Sequence[Mapping[str, Any]], measured: Mapping[str, pa.Table | Rows], name: str
    ) -> bool:
        run_id = trial_rows[0]["run_id"]
        tables = {table: conform(table, rows) for table, rows in measured.items()}
        for table, rows in tables.items():
            _check_key(table, rows, trial_rows)
        tables["trials"] = conform("trials", trial_rows)
        with ExitStack() as stack:
            moves = []
            for table, rows in tables.items():
                data = parquet.encode(table, rows)
                target = _target(layout.landing(self.root, table, run_id), name, data)
                moves.append((stack.enter_context(staged(target.parent, name, data)), target))
            stack.enter_context(locked(self.root, run_id))
            if self._has_any(run_id, name, trial_rows):
                return False
            self._forget(run_id, name, keep={target for _, target in moves})
            for tmp, target in moves:
                publish(tmp, target)
        return True

    def scan(self, run_id: str) -> Scan:
        """Every committed attempt of a run; a file that is cut short or foreign is skipped and named."""
        manifest = latest(self.root).manifest
        rows, skipped = trials_of(self.root, manifest, run_id)
        found = [_trial(row) for row in rows]
        for path in self._landed_trials(run_id, manifest):
            try:
                found.extend(read_trials(path))
            except ValueError:
                skipped.append(path)
        return Scan(trials=tuple(found), skipped=tuple(skipped))

    def committed(self, run_id: str) -> list[CommittedTrial]:
        """Every committed attempt of a run's trials; see `best` for the one that counts."""
        return list(self.scan(run_id).trials)

    def attempts(self, run_id: str) -> dict[str, int]:
        """The first attempt number that no file of a trial has, readable or not, by trial_id."""
        following: dict[str, int] = {}
        for trial in self.committed(run_id):
            following[trial.trial_id] = max(following.get(trial.trial_id, 0), trial.attempt + 1)
        for path in layout.landing(self.root, "trials", run_id).glob("*.parquet"):
            trial_id, _, number = layout.name_of(path).rpartition("-")
            if trial_id and number.isdecimal():
                following[trial_id] = max(following.get(trial_id, 0), int(number) + 1)
        return following

    def sweep_tmp(self) -> list[Path]:
        """Remove the temporary files of writers that are dead."""
        swept = []
        for folder in ("landing", "compacted", "manifest"):
            for path in (self.root / folder).rglob(f"*{layout.TMP_SUFFIX}"):
                if layout.is_leftover(path):
                    discard(path)
                    swept.append(path)
        return swept

    def _landed_trials(self, run_id: str, manifest: Manifest | None) -> list[Path]:
        paths = sorted(layout.landing(self.root, "trials", run_id).glob("*.parquet"))
        return [path for path in paths if manifest is None or not manifest.has_absorbed(self.root, path)]

    def _has_any(self, run_id: str, name: str, trial_rows: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a trial is committed: by the name of its file, or by its row where many are in one file."""
        folder = layout.landing(self.root, "trials", run_id)
        found = layout.landed_as(folder, f"{name}.", _BULK)
        many = [path for path in found if path.name.startswith(_BULK)]
        if len(found) > len(many) or any(layout.name_of(path) == name for path in many):
            return True
        mine = {layout.trial_name(row["trial_id"], row["attempt"]) for row in trial_rows}
        rows, _ = trials_of(self.root, latest(self.root).manifest, run_id)
        if mine & {layout.trial_name(row["trial_id"], row["attempt"]) for row in rows}:
            return True
        if len(mine) > 1 and mine & {layout.name_of(path) for path in folder.glob("*.parquet")}:
            return True
        return bool(mine & {layout.trial_name(one.trial_id, one.attempt) for path in many for one in _readable(path)})

    def _forget(self, run_id: str, name: str, *, keep: Iterable[Path]) -> None:
        """What an uncommitted attempt of the same number left."""
        kept = set(keep)
        for table in _MEASURED:
            for path in layout.landed_as(layout.landing(self.root, table, run_id), f"{name}."):
                if path not in kept:
                    try:
                        path.unlink(missing_ok=True)
                    except OSError as error:
                        raise StoreError(str(path), sentence(error)) from error


def best(trials: Iterable[CommittedTrial]) -> dict[str, CommittedTrial]:
    """The attempt that counts, by trial: best outcome, then the last. The view `trials` says the same in SQL."""
    ordered = sorted(trials, key=lambda trial: (-_rank(trial), trial.attempt))
    return {trial.trial_id: trial for trial in ordered}


def read_trials(path: Path) -> list[CommittedTrial]:
    """By the whole file, as the views do: a trial that they leave out has to be measured again.

    Raises:
        ValueError: why the file cannot be read.
    """
    rows = parquet.read_whole(path, "trials").rows
    return [_trial(row) for row in rows.select(CommittedTrial.__slots__).to_pylist()]


def _readable(path: Path) -> list[CommittedTrial]:
    try:
        return read_trials(path)
    except ValueError:
        return []


def _trial(row: Mapping[str, Any]) -> CommittedTrial:
    return CommittedTrial(
        trial_id=row["trial_id"], attempt=row["attempt"], outcome=Outcome(row["outcome"]), valid=row["valid"]
    )


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


def _check_key(table: str, rows: pa.Table, trials: Sequence[Mapping[str, Any]]) -> None:
    for column in ("run_id", "trial_id", "attempt"):
        if column not in rows.schema.names:
            raise ValueError(f"{table} is not measured by a trial: commit it apart")
        wanted = {trial[column] for trial in trials}
        if others := set(rows[column].unique().to_pylist()) - wanted:
            said = wanted if len(wanted) > 1 else next(iter(wanted))
            raise ValueError(f"{table} has rows of {column} {others}, not of {said}")


def _target(folder: Path, name: str, data: pa.Buffer) -> Path:
    return folder / layout.landed_name(name, _sha(data))


def _sha(data: pa.Buffer | bytes) -> str:
    return hashlib.sha256(data).hexdigest()
