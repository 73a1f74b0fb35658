"""A warehouse in a bucket, as a folder of this machine: brought up to date before it is read, sent after it is written.

What lands and what is compacted is named by its content, so a name that is here need not be fetched again. Listings and
transfers keep the order in which a warehouse is written: whoever sees a trial's row sees what it measured.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.store import layout
from fleetbench.store.bucket import CONNECTIONS, Bucket, Listed
from fleetbench.store.url import BucketUrl
from fleetbench.store.write import discard, locked, publish, staged

_LISTED = ("manifest/", "landing/trials/", "compacted/", "landing/")
"""As a reader looks: a manifest is published after its files, a trial's row after what it measured."""
_ROWS, _MANIFESTS = "landing/trials/", "manifest/"
_PARTS = {"manifest": 2, "compacted": 3, "landing": 4}
_LOCK = "mirror"


def local(warehouse: Path | BucketUrl, *, anew: bool = False) -> Path:
    """The folder to read.

    Args:
        warehouse: where the rows are.
        anew: fetch every object of a bucket, also those that are here already.

    Raises:
        InputError: there is no such bucket, or nothing of a warehouse in it.
        UnusableEnvironmentError: no boto3, no credentials, no right, no answer.
        StoreError: no room here.
    """
    if isinstance(warehouse, Path):
        return warehouse
    bucket = Bucket(warehouse)
    root = folder(bucket)
    with locked(root, _LOCK):
        if not _pull(bucket, root, anew=anew):
            raise InputError((f"there is no warehouse at {warehouse}: nothing has landed there",))
    return root


@contextmanager
def writing(warehouse: Path | BucketUrl) -> Iterator[Path]:
    """The folder to write to. Of a bucket: what is new in it is sent at the end, what was removed is removed there.

    A failure sends nothing; one on the way leaves no trial without its tables. Raises as `local`.

    Raises:
        UnusableEnvironmentError: another compaction was first.
    """
    if isinstance(warehouse, Path):
        yield warehouse
        return
    bucket = Bucket(warehouse)
    root = folder(bucket)
    with locked(root, _LOCK):
        before = _pull(bucket, root)
        yield root
        _push(bucket, root, before)


def folder(bucket: Bucket) -> Path:
    """Where this user keeps a copy: one for each endpoint, bucket and prefix."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    name = hashlib.sha256(f"{bucket.endpoint}\n{bucket.url}".encode()).hexdigest()[: layout.HASH_DIGITS]
    return cache / "fleetbench" / "warehouse" / name


def _pull(bucket: Bucket, root: Path, *, anew: bool = False) -> frozenset[str]:
    """Make the folder as the bucket is; what is in it."""
    there: dict[str, Listed] = {}
    for start in _LISTED:
        there |= {name: found for name, found in bucket.listed(start) if _is_ours(name) and name not in there}
    here = _sizes(root)
    wanted = [name for name, found in there.items() if anew or here.get(name) != found.bytes]
    gone = here.keys() - there.keys()
    for part in (_measured(wanted), _starting(wanted, _ROWS)):
        _fetch(bucket, root, part, there)
    _forget(root, (name for name in gone if not name.startswith(_MANIFESTS)))
    _fetch(bucket, root, _starting(there, _MANIFESTS), there)  # their names do not tell their content
    _forget(root, _starting(gone, _MANIFESTS))
    return frozenset(_sizes(root))


def _push(bucket: Bucket, root: Path, before: frozenset[str]) -> None:
    """Files before the manifest that names them, and removed ones before the one that forgets them."""
    now = _sizes(root)
    new, gone = sorted(now.keys() - before), sorted(before - now.keys())
    for part in (_measured(new), _starting(new, _ROWS)):
        _send(bucket, root, part)
    bucket.delete([name for name in gone if not name.startswith(_MANIFESTS)])
    _send(bucket, root, _starting(new, _MANIFESTS))
    bucket.delete(_starting(gone, _MANIFESTS))


def _fetch(bucket: Bucket, root: Path, names: Iterable[str], there: Mapping[str, Listed]) -> None:
    def fetch(name: str) -> None:
        target = root / name
        data = bucket.get(name)
        if data is not None and not _is_named_by(target, data):
            data = bucket.get(name)  # damaged on the way; what the bucket has damaged is for `verify` to find
        if data is None:  # removed since it was listed
            discard(target)
            return
        with staged(target.parent, target.name, data) as tmp:
            os.utime(tmp, (there[name].changed_s, there[name].changed_s))
            publish(tmp, target)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(fetch, names))


def _send(bucket: Bucket, root: Path, names: Iterable[str]) -> None:
    def send(name: str) -> None:
        if bucket.put_new(name, (root / name).read_bytes()):
            return
        discard(root / name)
        if name.startswith(_MANIFESTS):
            raise UnusableEnvironmentError(f"another compaction of {bucket.url} was first: the same command goes on")
        raise UnusableEnvironmentError(
            f"{bucket.url}/{name} has other content than its name says: fleetbench warehouse verify"
        )

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(send, names))


def _forget(root: Path, names: Iterable[str]) -> None:
    for name in names:
        discard(root / name)


def _sizes(root: Path) -> dict[str, int]:
    """The files of the warehouse's own that are here, with their bytes."""
    found = (path for start in _PARTS for path in (root / start).rglob("*") if path.is_file())
    sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in found}
    return {name: size for name, size in sizes.items() if _is_ours(name)}


def _is_ours(name: str) -> bool:
    """A name that a warehouse gives; any other object of the bucket is left alone."""
    parts = name.split("/")
    ending = ".json" if name.startswith(_MANIFESTS) else ".parquet"
    try:
        return _PARTS.get(parts[0]) == len(parts) and name.endswith(ending) and all(map(layout.checked, parts))
    except ValueError:
        return False


def _is_named_by(path: Path, data: bytes) -> bool:
    said = path.stem if path.parent.parent.name == "compacted" else layout.hash_of(path)
    return said is None or hashlib.sha256(data).hexdigest().startswith(said)


def _measured(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith((_ROWS, _MANIFESTS))]


def _starting(names: Iterable[str], start: str) -> list[str]:
    return [name for name in names if name.startswith(start)]
