"""Which files of a warehouse count: the compacted ones, by whole-file hash, and the landed ones that they took up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fleetbench import __version__
from fleetbench.errors import UnusableEnvironmentError
from fleetbench.matrix.identity import digest
from fleetbench.store import layout
from fleetbench.store.parquet import NewerSchemaError
from fleetbench.store.schema import VERSION
from fleetbench.store.write import publish_new, staged

_TRIAL = ("trial_id", "attempt", "outcome", "valid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """A file that a compaction wrote; `path` is below the warehouse, sha256 and bytes are of the whole file."""

    table: str
    path: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Files that one compaction left out, at `at_s` seconds since the epoch: their rows are in others.

    landed: below `landing/`; compacted: below the warehouse.
    """

    at_s: float
    landed: frozenset[str]
    compacted: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a compaction left.

    left_out: what may still be on disk for readers that found it earlier; dropped: runs whose raw rows were dropped
    because of their age.
    """

    number: int
    files: tuple[Compacted, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    dropped: tuple[str, ...] = ()

    def has_absorbed(self, root: Path, path: Path) -> bool:
        name = str(path.relative_to(root / "landing"))
        return any(name in batch.landed for batch in self.left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The manifest that counts, None before the first compaction; and later ones that cannot be believed, with why.

    next_number: that no file has.
    """

    manifest: Manifest | None
    next_number: int
    damaged: tuple[tuple[Path, str], ...] = ()


def latest(root: Path) -> Found:
    """The one of the highest number that is whole: what an earlier one names is still there while a later one is new.

    Raises:
        NewerSchemaError: it was written by a later fleetbench.
        UnusableEnvironmentError: there are compacted files, and no manifest that says which of them count.
    """
    damaged: list[tuple[Path, str]] = []
    paths = sorted(layout.manifests(root).glob("*.json"), reverse=True)
    number = max((int(path.stem) for path in paths if path.stem.isdecimal()), default=0) + 1
    for path in paths:
        try:
            return Found(manifest=read(path), next_number=number, damaged=tuple(damaged))
        except FileNotFoundError:
            if not path.is_symlink():  # a compaction removed it, so there are later ones
                return latest(root)
            damaged.append((path, "a link to nowhere"))
        except ValueError as error:
            damaged.append((path, str(error)))
    if next((root / "compacted").glob("*/*.parquet"), None) is not None:
        lost = f"{damaged[0][0]}: {damaged[0][1]}" if damaged else f"{layout.manifests(root)} has none"
        raise UnusableEnvironmentError(
            f"no manifest says which compacted files of {root} count ({lost}): put the folder manifest back from a copy"
        )
    return Found(manifest=None, next_number=number, damaged=tuple(damaged))


def read(path: Path) -> Manifest:
    """One manifest.

    Raises:
        ValueError: why it cannot be believed.
        NewerSchemaError: it was written by a later fleetbench.
        FileNotFoundError: it is gone.
        UnusableEnvironmentError: it may be whole and cannot be read now.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except IsADirectoryError as error:
        raise ValueError("not a readable manifest: it is a folder") from error
    except OSError as error:
        raise UnusableEnvironmentError(f"{path} cannot be read: {error.strerror or error}") from error
    return _parsed(path, data)


@lru_cache(maxsize=8)
def _parsed(path: Path, data: bytes) -> Manifest:
    try:
        said: dict[str, Any] = json.loads(data)
        if said.pop("sha256") != digest(said):
            raise ValueError("not as it was written: its own hash differs")
        version = int(said["schema"])
        if version > VERSION:
            raise NewerSchemaError(path, version, str(said["fleetbench"]))
        return Manifest(
            number=said["number"],
            files=tuple(Compacted(**file) for file in said["files"]),
            left_out=tuple(
                LeftOut(
                    at_s=batch["at_s"],
                    landed=frozenset(_unfolded(batch["landed"])),
                    compacted=tuple(batch["compacted"]),
                )
                for batch in said["left_out"]
            ),
            dropped=tuple(said["dropped"]),
        )
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"not a readable manifest: {error}") from error


def publish(root: Path, manifest: Manifest) -> bool:
    """Write it as the next one; False where another compaction was first.

    Raises:
        StoreError: no room, no rights.
    """
    said: dict[str, Any] = {
        "schema": VERSION,
        "fleetbench": __version__,
        "number": manifest.number,
        "files": [asdict(file) for file in manifest.files],
        "left_out": [
            {"at_s": batch.at_s, "landed": _folded(batch.landed), "compacted": list(batch.compacted)}
            for batch in manifest.left_out
        ],
        "dropped": list(manifest.dropped),
    }
    said["sha256"] = digest(said)
    name = f"{manifest.number:08}"
    folder = layout.manifests(root)
    with staged(folder, name, json.dumps(said, indent=1).encode()) as tmp:
        return publish_new(tmp, folder / f"{name}.json")


def trials_of(root: Path, manifest: Manifest | None, run_id: str) -> tuple[list[dict[str, Any]], list[Path]]:
    """trial_id, attempt, outcome and valid of a run's compacted trials; and the files of them that cannot be read."""
    rows: list[dict[str, Any]] = []
    damaged: list[Path] = []
    for file in manifest.files if manifest else ():
        if file.table == "trials":
            try:
                rows += _trials(root / file.path, run_id)
            except (pa.ArrowException, OSError, ValueError):
                damaged.append(root / file.path)
    return rows, damaged


@lru_cache(maxsize=64)
def _trials(path: Path, run_id: str) -> tuple[dict[str, Any], ...]:
    rows = pq.read_table(path, columns=list(_TRIAL), filters=[("run_id", "=", run_id)])
    return tuple(rows.to_pylist())


def _folded(paths: frozenset[str]) -> dict[str, list[str]]:
    """By folder, so that a manifest does not say each run's folder a thousand times."""
    folded: dict[str, list[str]] = {}
    for path in sorted(paths):
        folder, _, name = path.rpartition("/")
        folded.setdefault(folder, []).append(name)
    return folded


def _unfolded(folded: Mapping[str, list[str]]) -> Iterator[str]:
    return (f"{folder}/{name}" for folder, names in folded.items() for name in names)
