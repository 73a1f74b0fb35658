"""Whether a warehouse is as it was written: every byte of every file, what belongs together, and the checks in SQL."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.store import layout, parquet
from fleetbench.store.connection import connect, failed_checks
from fleetbench.store.manifest import Compacted, Manifest, latest, read
from fleetbench.store.parquet import Whole
from fleetbench.store.schema import SCHEMAS

_OURS = {"landing": len(("landing", "table", "run", "file")), "compacted": 3, "manifest": 2}
_BESIDE = ("locks", "control")
"""What a running fleetbench keeps there for itself."""
_WITHOUT_REQUESTS = """
SELECT run_id, count(*) AS trials
FROM good_trials ANTI JOIN (SELECT DISTINCT run_id, trial_id, attempt FROM requests) USING (run_id, trial_id, attempt)
SEMI JOIN (SELECT run_id FROM runs WHERE origin = 'fleetbench') AS own USING (run_id)
WHERE kind = 'speed' AND completed_requests > 0 AND run_id NOT IN (SELECT unnest($dropped))
GROUP BY run_id
ORDER BY run_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong, in a word and a sentence; `where` is a file below the warehouse, a run or a check."""

    kind: str
    where: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How much was looked at, and what is wrong with it.

    uncommitted: files of trials whose own row is not there: they count nowhere, and are no mistake.
    """

    files: int
    bytes: int
    rows: int
    uncommitted: int
    findings: tuple[Finding, ...]


def verify(root: Path) -> Verified:
    """Read everything.

    Raises:
        InputError: there is no such folder, or a later fleetbench wrote to it.
    """
    with connect(root) as connection:
        found = verify_files(root)
        return replace(found, findings=(*found.findings, *_together(connection, latest(root).manifest)))


def verify_files(root: Path) -> Verified:
    """Each file by itself.

    Raises:
        NewerSchemaError: a later fleetbench wrote one.
    """
    look = _Look(root=root, manifest=latest(root).manifest)
    findings = (*look.manifests(), *look.compacted(), *look.landed(), *look.strays())
    return Verified(files=look.files, bytes=look.bytes, rows=look.rows, uncommitted=look.uncommitted, findings=findings)


@dataclass(slots=True, kw_only=True)
class _Look:
    """A verification on its way."""

    root: Path
    manifest: Manifest | None
    files: int = 0
    bytes: int = 0
    rows: int = 0
    uncommitted: int = 0

    def manifests(self) -> Iterator[Finding]:
        for path in sorted(layout.manifests(self.root).glob("*.json")):
            self._count(path)
            try:
                read(path)
            except (ValueError, OSError, UnusableEnvironmentError) as error:
                yield self._finding("damaged", path, str(error))

    def compacted(self) -> Iterator[Finding]:
        for file in self.manifest.files if self.manifest else ():
            path = self.root / file.path
            if not path.exists():
                yield self._finding("missing", path, "the manifest names it")
                continue
            self._count(path)
            self.rows += file.rows
            if why := _differs(path, file):
                yield self._finding("damaged", path, why)

    def landed(self) -> Iterator[Finding]:
        committed = {
            (path.parent.name, layout.name_of(path)) for path in (self.root / "landing" / "trials").glob("*/*.parquet")
        }
        for table in SCHEMAS:
            paths = self._unabsorbed(table)
            for path, whole in parquet.read_all(paths, table):
                self._count(path)
                if isinstance(whole, Whole):
                    self.rows += whole.rows.num_rows
                else:
                    yield self._finding("damaged", path, str(whole))
            if "trial_id" in SCHEMAS[table].names:
                self.uncommitted += sum((path.parent.name, layout.name_of(path)) not in committed for path in paths)

    def strays(self) -> Iterator[Finding]:
        """Files that nobody of ours puts there; what a compaction left behind is cleared by the next one."""
        for path in sorted(self.root.rglob("*")):
            parts = path.relative_to(self.root).parts
            if path.is_dir() or parts[0] in _BESIDE or path.name.endswith(layout.TMP_SUFFIX):
                continue
            ours = _OURS.get(parts[0]) == len(parts) and path.suffix == (
                ".json" if parts[0] == "manifest" else ".parquet"
            )
            if not ours or (parts[0] != "manifest" and parts[1] not in SCHEMAS):
                yield self._finding("foreign", path, "no file of a warehouse: move it away")

    def _unabsorbed(self, table: str) -> list[Path]:
        paths = sorted((self.root / "landing" / table).glob("*/*.parquet"))
        return [path for path in paths if self.manifest is None or not self.manifest.has_absorbed(self.root, path)]

    def _count(self, path: Path) -> None:
        self.files += 1
        with suppress(OSError):  # gone, or a link to nowhere: its reader says so
            self.bytes += path.stat().st_size

    def _finding(self, kind: str, path: Path, why: str) -> Finding:
        return Finding(kind=kind, where=str(path.relative_to(self.root)), why=why)


def _differs(path: Path, file: Compacted) -> str | None:
    """Why a compacted file is not what the manifest says."""
    with path.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    if sha256 != file.sha256:
        return f"its content differs from what was written: sha256 {sha256[:12]}, not {file.sha256[:12]}"
    footer = parquet.inspect(path, file.table)
    return footer.why_not


def _together(connection: duckdb.DuckDBPyConnection, manifest: Manifest | None) -> Iterator[Finding]:
    """What each file cannot know: rows that belong to others."""
    dropped = list(manifest.dropped) if manifest else []
    rows: Sequence[tuple[str, int]] = connection.execute(_WITHOUT_REQUESTS, {"dropped": dropped}).fetchall()
    for run_id, trials in rows:
        yield Finding(kind="missing", where=run_id, why=f"{trials} of its trials have no requests")
    for name, times in failed_checks(connection).items():
        yield Finding(kind="check", where=name, why=f"{times} rows: SELECT * FROM check_{name}")  # noqa: S608 - a hint
