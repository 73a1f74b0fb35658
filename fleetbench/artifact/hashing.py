"""Remembers the hash of a large file by what the file system says of it, so that no plan reads 140 GB again."""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import suppress
from pathlib import Path

from fleetbench.artifact.cache import default_cache
from fleetbench.errors import UnusableEnvironmentError

LARGE_BYTES = 256 * 2**20
"""Below it, reading is as fast as asking."""
SETTLED_S = 2.0
"""A file that was written later than so long ago may be written again within the same time stamp."""
_CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def remembered_sha256(path: Path) -> str:
    """Hex, of the file's content: remembered where device, inode, size and time of change are those of before.

    Raises:
        OSError: it cannot be read.
    """
    found = path.stat()
    if found.st_size < LARGE_BYTES or time.time() - found.st_mtime < SETTLED_S:
        return file_sha256(path)
    stamp = f"{found.st_dev}-{found.st_ino}-{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"
    try:
        note = default_cache() / "hashes" / hashlib.sha256(stamp.encode()).hexdigest()
    except UnusableEnvironmentError:
        return file_sha256(path)
    with suppress(OSError, ValueError):
        known = note.read_text(encoding="ascii")
        if _SHA256.match(known):
            return known
    made = file_sha256(path)
    with suppress(OSError):  # nothing is lost but time
        note.parent.mkdir(parents=True, exist_ok=True)
        draft = note.with_name(f"{note.name}.{time.monotonic_ns()}")
        draft.write_text(made, encoding="ascii")
        draft.rename(note)
    return made


def file_sha256(path: Path) -> str:
    """Hex, of the file's content as it is now."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()
