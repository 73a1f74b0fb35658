"""Where a warehouse keeps what, and who wrote a leftover.

landing/<table>/<run_id>/<name>.<hash>.parquet   one file a table and commit, named by its content too
compacted/<table>/<hash>.parquet                 many of them in one
manifest/<number>.json                           which files count, from the first compaction on
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
import time
from pathlib import Path

TMP_SUFFIX = ".tmp"
"""Temporary files carry their own suffix: a leading dot would not hide them from DuckDB's glob."""

FOREIGN_TMP_AGE_S = 86_400.0
"""A leftover of another machine cannot be checked for a living writer, so it must be a day old."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a full disk says."""

HASH_DIGITS = 16

_HASHED = re.compile(r"(?P<name>.+)\.(?P<hash>[0-9a-f]{16})")
_PART = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_TMP = re.compile(r".*\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<ticks>\d+)-\d+\.tmp")


def landing(root: Path, table: str, run_id: str) -> Path:
    return root / "landing" / table / checked(run_id)


def landed_name(name: str, sha256: str) -> str:
    return f"{checked(name)}.{sha256[:HASH_DIGITS]}.parquet"


def name_of(path: Path) -> str:
    """What a landed file was committed as, without the hash of its content."""
    match = _HASHED.fullmatch(path.stem)
    return match["name"] if match else path.stem


def misplaced(root: Path) -> list[Path]:
    """What stands where a folder of the warehouse belongs, and is none: what was in it is not here."""
    parts = [root / "landing", root / "compacted"]
    tables = [folder for part in parts if part.is_dir() for folder in part.iterdir()]
    folders = [*parts, root / "manifest", *tables]
    return sorted(folder for folder in folders if os.path.lexists(folder) and not folder.is_dir())


def landed_as(folder: Path, *starts: str) -> list[Path]:
    """The files of a folder whose names start so; a folder has thousands, so no pattern is matched."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if entry.name.startswith(starts)]
    except OSError:
        return []
    return [folder / one for one in found if one.endswith(".parquet")]


def hash_of(path: Path) -> str | None:
    """The first digits of the sha256 of a landed file, by its name; None where an older writer gave none."""
    match = _HASHED.fullmatch(path.stem)
    return match["hash"] if match else None


def compacted(root: Path, table: str) -> Path:
    return root / "compacted" / table


def manifests(root: Path) -> Path:
    return root / "manifest"


def checked(part: str) -> str:
    """`part` if it is safe as a file name.

    Raises:
        ValueError: a separator, a leading dot, or a character beyond letters, digits and `._~-`.
    """
    if not _PART.fullmatch(part):
        raise ValueError(f"{part!r} cannot be part of a warehouse path: use letters, digits and ._~-")
    return part


def trial_name(trial_id: str, attempt: int) -> str:
    return f"{trial_id}-{attempt}"


def tmp_name(name: str, serial: int) -> str:
    """Says which process wrote it, so that a later one can tell a leftover from work in progress."""
    return f"{name}.{_host()}-{os.getpid()}-{_start_ticks(os.getpid()) or 0}-{serial}{TMP_SUFFIX}"


def is_leftover(path: Path) -> bool:
    """A temporary file whose writer is dead."""
    match = _TMP.fullmatch(path.name)
    if match is None or match["host"] != _host():
        return _age_s(path) > FOREIGN_TMP_AGE_S
    return _start_ticks(int(match["pid"])) != int(match["ticks"])


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; with the pid it names one process. None: gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])
