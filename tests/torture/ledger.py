"""What was ever seen committed: trial files of the warehouse, by name, with their content."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path

from fleetbench.matrix.types import Outcome
from fleetbench.store.commit import read_trials

LOOK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A trial file as it was first seen; run: its run_id."""

    path: Path
    run: str
    sha256: str
    trial_id: str
    attempt: int
    outcome: Outcome
    valid: bool

    @property
    def good(self) -> bool:
        return self.outcome is Outcome.OK and self.valid


@dataclass(slots=True)
class Ledger:
    """Looks again and again; broken: visible files that could not be read when they were seen."""

    warehouse: Path
    entries: dict[Path, Entry] = field(default_factory=dict)
    broken: dict[Path, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        for path in (self.warehouse / "landing" / "trials").glob("*/*.parquet"):
            if path in self.entries or path in self.broken:
                continue
            try:
                (row,) = read_trials(path)
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            except (OSError, ValueError) as error:
                self.broken[path] = str(error)
                continue
            self.entries[path] = Entry(
                path=path,
                run=path.parent.name,
                sha256=sha256,
                trial_id=row.trial_id,
                attempt=row.attempt,
                outcome=row.outcome,
                valid=row.valid,
            )

    def good(self, run: str) -> set[str]:
        """Trials of a run that count, once and for all."""
        return {entry.trial_id for entry in list(self.entries.values()) if entry.run == run and entry.good}

    def changed(self) -> list[str]:
        """Files that are gone, or are not what they were."""
        found = []
        for path, entry in list(self.entries.items()):
            try:
                same = hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
            except OSError as error:
                found.append(f"{path.name}, seen committed, is gone: {error.strerror}")
                continue
            if not same:
                found.append(f"{path.name} is not what it was")
        return found

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()
