"""The compactor: many landed files become few, while others write and read.

Nothing is removed that a reader may hold: landed files that were taken up, and compacted ones that were merged, go
when a later compaction finds that they were left out longer ago than a grace. A kill leaves at most files that no
manifest names, which a later compaction clears.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.store import layout, parquet, versions
from fleetbench.store.connection import existing
from fleetbench.store.manifest import Compacted, LeftOut, Manifest, latest
from fleetbench.store.manifest import publish as publish_manifest
from fleetbench.store.rows import conform
from fleetbench.store.schema import SCHEMAS
from fleetbench.store.write import StoreError, discard, locked, publish, sentence, sync, tmp_path

GRACE_S = 3600.0
MOST_FILES = 16
"""Compacted files of a table; when there are more, the smaller half become one."""
KEPT_MANIFESTS = 4
RAW = ("requests", "engine_metrics", "power", "quality_positions")
"""What a trial's own row was computed from: the most bytes, and the first to be given up."""
HELD_BYTES = 256 * 2**20
"""Rows that are sorted at once, so that those of a trial lie together and DuckDB finds them by statistics."""
_ORDER = ("run_id", "trial_id", "attempt", "request", "item_id", "position", "launch_id", "name", "at_ns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """What was done.

    number: of the new manifest, None where there was nothing to do; left: files that stay in landing because they
    cannot be read or belong to no committed trial.
    """

    number: int | None
    absorbed: int
    written: int
    removed: int
    left: int
    dropped: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Work:
    """A compaction on its way."""

    root: Path
    before: Manifest
    number: int
    drop: frozenset[str]
    landed: set[str] = field(default_factory=set)
    written: list[Compacted] = field(default_factory=list)
    replaced: set[str] = field(default_factory=set)
    left: int = 0


def compact(
    root: Path, *, grace_s: float = GRACE_S, drop_raw_after_s: float | None = None, now_s: float | None = None
) -> Compaction:
    """Take up all that has landed of committed trials, and remove what was left out longer ago than the grace.

    Args:
        root: a local warehouse.
        grace_s: how long a reader may hold the files that it found.
        drop_raw_after_s: requests, metrics, power and quality positions of runs older than that are dropped.
        now_s: seconds since the epoch, if not those of the clock.

    Raises:
        InputError: there is no such folder, or a later fleetbench wrote to it.
        UnusableEnvironmentError: another compaction runs, or what an earlier one left is damaged.
        StoreError: no room, no rights; what was there before still counts.
    """
    now = time.time() if now_s is None else now_s
    with locked(existing(root), "compact", wait=False) as held:
        if not held:
            raise UnusableEnvironmentError(f"another compaction of {root} runs: wait until it ends")
        before = _before(root)
        drop = _aged(root, before, now - drop_raw_after_s) if drop_raw_after_s is not None else frozenset()
        work = _Work(root=root, before=before, number=before.number + 1, drop=drop)
        _take_up(work)
        removed, kept = _clear(work, now - grace_s)
        published = _publish(work, now, kept)
        for path in sorted(layout.manifests(root).glob("*.json"))[:-KEPT_MANIFESTS]:
            discard(path)
    return Compaction(
        number=work.number if published else None,
        absorbed=len(work.landed),
        written=len(work.written),
        removed=removed,
        left=work.left,
        dropped=tuple(sorted(work.drop)),
    )


def _before(root: Path) -> Manifest:
    """The manifest to go on from; an empty one is published before the first, so that a lost one is known as lost.

    Raises:
        UnusableEnvironmentError: a later one is damaged, or a folder is none: what it names would be taken for strays.
    """
    if wrong := layout.misplaced(root):
        raise UnusableEnvironmentError(f"{wrong[0]} is no folder: move it away, and put back what was there")
    found = latest(root)
    if found.damaged:
        path, why = found.damaged[0]
        raise UnusableEnvironmentError(f"{path}: {why}: put it back from a copy before anything is compacted")
    if found.manifest is None:
        publish_manifest(root, Manifest(number=0))
    return found.manifest or Manifest(number=0)


def _take_up(work: _Work) -> None:
    """Trials first: what they measured was published before them, so it is there when their folder is listed later."""
    _compact_table(work, "trials", _landed(work, "trials"))
    names = {_committed_as(Path(path)) for path in work.landed}
    for table in SCHEMAS:
        if table == "trials":
            continue
        paths = _landed(work, table)
        if "trial_id" in SCHEMAS[table].names:
            mine = [path for path in paths if _committed_as(path) in names]
            work.left += len(paths) - len(mine)
            paths = mine
        _compact_table(work, table, paths)


def _committed_as(path: Path) -> tuple[str, str]:
    return path.parent.name, layout.name_of(path)


def _landed(work: _Work, table: str) -> list[Path]:
    """In the order of runs, and of trials where each has a file of its own."""
    paths = sorted((work.root / "landing" / table).glob("*/*.parquet"), key=lambda path: (path.parent.name, path.name))
    return [path for path in paths if not work.before.has_absorbed(work.root, path)]


def _compact_table(work: _Work, table: str, paths: Sequence[Path]) -> None:
    """One file of what has landed, with the smaller half of the files that there are where they are too many."""
    merged = [file for file in _mergeable(work, table) if _is_whole(work.root, file)]  # no damage under a new hash
    if not paths and not merged:
        return
    taken: list[Path] = []
    made = _write(work.root, table, _dropping(work, table, _parts(work, table, paths, merged, taken)))
    work.landed |= {str(path.relative_to(work.root / "landing")) for path in taken}
    work.replaced |= {file.path for file in merged}
    work.left += len(paths) - len(taken)
    if made is not None:
        work.written.append(made)


def _mergeable(work: _Work, table: str) -> list[Compacted]:
    """Files with rows that are to be dropped, and the smaller half where there are too many."""
    mine = [file for file in work.before.files if file.table == table]
    aged = [file for file in mine if table in RAW and work.drop and _touches(work.root / file.path, work.drop)]
    others = sorted((file for file in mine if file not in aged), key=lambda file: file.bytes)
    return aged + (others[: MOST_FILES // 2] if len(others) >= MOST_FILES else [])


def _is_whole(root: Path, file: Compacted) -> bool:
    try:
        return _hashed(root / file.path) == (file.sha256, file.bytes)
    except OSError:
        return False


def _parts(
    work: _Work, table: str, paths: Sequence[Path], merged: Sequence[Compacted], taken: list[Path]
) -> Iterator[pa.Table]:
    """The rows of compacted files, group by group, then of landed ones; what cannot be read stays where it is."""
    for file in sorted(merged, key=lambda file: file.path):
        with pq.ParquetFile(work.root / file.path, page_checksum_verification=True) as source:
            for group in range(source.num_row_groups):
                yield conform(table, source.read_row_group(group))
    for path, whole in parquet.read_all(paths, table):
        if isinstance(whole, parquet.Whole):
            taken.append(path)
            yield versions.today(table, whole.rows, whole.version)


def _dropping(work: _Work, table: str, parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    if table not in RAW or not work.drop:
        yield from parts
        return
    old = pa.array(sorted(work.drop))
    for part in parts:
        yield part.filter(pc.invert(pc.is_in(part["run_id"], value_set=old)))


def _write(root: Path, table: str, parts: Iterator[pa.Table]) -> Compacted | None:
    """One file, some of it at a time, each sorted; None where there is no row."""
    folder = layout.compacted(root, table)
    tmp = tmp_path(folder, table)
    order = [(name, "ascending") for name in _ORDER if name in SCHEMAS[table].names]
    rows = 0
    try:
        with parquet.writer(tmp, table) as sink:
            for held in _held(parts):
                sink.write_table(held.sort_by(order), row_group_size=parquet.ROWS_A_GROUP)
                rows += held.num_rows
        if not rows:
            return None
        sync(tmp)
        sha256, size = _hashed(tmp)
        target = folder / f"{sha256[: layout.HASH_DIGITS]}.parquet"
        publish(tmp, target)
    except OSError as error:
        raise StoreError(str(tmp), sentence(error)) from error
    finally:
        discard(tmp)
    return Compacted(table=table, path=str(target.relative_to(root)), sha256=sha256, bytes=size, rows=rows)


def _held(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """As much at once as memory is given to; a night's rows, as a rule."""
    held: list[pa.Table] = []
    size = 0
    for part in parts:
        held.append(part)
        size += part.get_total_buffer_size()  # nbytes looks at every column anew: 30 times as long for a row
        if size >= HELD_BYTES:
            yield pa.concat_tables(held)
            held, size = [], 0
    if sum(part.num_rows for part in held):
        yield pa.concat_tables(held)


def _hashed(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        return found, file.tell()


def _clear(work: _Work, before_s: float) -> tuple[int, tuple[LeftOut, ...]]:
    """Remove what was left out before then, and what dead compactors wrote; the number, and what is left out still.

    Files go before the manifest that forgets them: the other way round a reader would count them once more.
    """
    root, batches = work.root, work.before.left_out
    kept = tuple(batch for batch in batches if batch.at_s > before_s)
    named = {root / file.path for file in (*work.before.files, *work.written)}
    named |= {root / path for batch in kept for path in batch.compacted}
    stray = [path for path in (root / "compacted").glob("*/*.parquet") if path not in named]
    removed = _remove(path for path in stray if path.stat().st_mtime <= before_s)
    for batch in batches:
        if batch not in kept:
            removed += _remove(root / "landing" / path for path in batch.landed)
            removed += _remove(root / path for path in batch.compacted)
    return removed, kept


def _publish(work: _Work, now: float, kept: tuple[LeftOut, ...]) -> bool:
    """The manifest that makes it count; False where nothing changed."""
    before = work.before
    new = bool(work.landed or work.written or work.replaced)
    if not new and not work.drop and kept == before.left_out:
        return False
    batch = LeftOut(at_s=now, landed=frozenset(work.landed), compacted=tuple(sorted(work.replaced)))
    made = Manifest(
        number=work.number,
        files=(*(file for file in before.files if file.path not in work.replaced), *work.written),
        left_out=(*kept, batch) if new else kept,
        dropped=tuple(sorted(work.drop | set(before.dropped))),
    )
    if not publish_manifest(work.root, made):
        raise UnusableEnvironmentError(f"another compaction of {work.root} was first: the same command goes on")
    return True


def _remove(paths: Iterable[Path]) -> int:
    removed = 0
    for path in paths:
        if path.exists():
            discard(path)
            removed += 1
    return removed


def _aged(root: Path, manifest: Manifest, before_s: float) -> frozenset[str]:
    """Runs whose last submission is older, and whose raw rows are not dropped yet."""
    newest: dict[str, float] = {}
    paths = [root / file.path for file in manifest.files if file.table == "runs"]
    for _, whole in parquet.read_all([*paths, *(root / "landing" / "runs").glob("*/*.parquet")], "runs"):
        if isinstance(whole, parquet.Whole):
            rows = whole.rows
            for run_id, submitted in zip(rows["run_id"].to_pylist(), rows["submitted_at"].to_pylist(), strict=True):
                newest[run_id] = max(newest.get(run_id, 0.0), submitted.timestamp())
    return frozenset(run_id for run_id, last_s in newest.items() if last_s < before_s) - set(manifest.dropped)


def _touches(path: Path, runs: frozenset[str]) -> bool:
    try:
        found = pq.read_table(path, columns=["run_id"])["run_id"].unique().to_pylist()
    except (pa.ArrowException, OSError, ValueError):
        return False
    return not runs.isdisjoint(found)
