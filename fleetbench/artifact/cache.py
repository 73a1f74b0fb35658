"""The folder of made artifacts: found by id, published whole or not at all, made by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fleetbench.artifact.types import Artifact, ArtifactError
from fleetbench.errors import UnusableEnvironmentError

MODEL, FOLDER, MANIFEST = "model.gguf", "model", "manifest.json"
"""What an artifact is in its folder: one file, or a checkpoint of many in Hugging Face layout."""
_LOCKS, _STAGING = ".locks", ".staging"
_SAFE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an artifact was made of and by, what came out, and what that cost.

    build_s: seconds that making it took, the base form included where it was made for it.
    peak_rss_bytes: the most resident memory of the processes that made it, None where the system does not say.
    tool: what made it, with versions. calibration_tok: tokens of the calibration text that were looked at.
    """

    artifact_id: str
    model: str
    model_digest: str
    weights: str
    method: str
    toolchain: str
    sha256: str
    bytes: int
    build_s: float
    peak_rss_bytes: int | None = None
    tool: str | None = None
    calibration_sha256: str | None = None
    calibration_tok: int | None = None
    protect: tuple[str, ...] = ()


def default_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """$FLEETBENCH_CACHE, else fleetbench/ in $XDG_CACHE_HOME, else ~/.cache/fleetbench.

    Raises:
        UnusableEnvironmentError: none of them is set, and the user has no home.
    """
    own = environment.get("FLEETBENCH_CACHE")
    if own:
        return Path(own)
    shared = environment.get("XDG_CACHE_HOME")
    if shared:
        return Path(shared) / "fleetbench"
    try:
        return Path.home() / ".cache" / "fleetbench"
    except RuntimeError as error:
        raise UnusableEnvironmentError(
            "there is no home folder for the artifact cache: set FLEETBENCH_CACHE"
        ) from error


def probe(cache: Path) -> None:
    """Make the folder, and prove with a real file that artifacts can be made and locked in it.

    Raises:
        UnusableEnvironmentError: read-only, no room, no rights, or not a folder.
    """
    try:
        for folder in (cache / _LOCKS, cache / _STAGING):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix="probe.", dir=folder) as file:
                file.write(b"probe")
                file.flush()
                os.fsync(file.fileno())
    except (FileExistsError, NotADirectoryError) as error:
        why = f"the artifact cache {cache} is no folder, or below a file; set FLEETBENCH_CACHE to another folder"
        raise UnusableEnvironmentError(why) from error
    except OSError as error:
        raise UnusableEnvironmentError(str(unwritable(cache, error))) from error


def find(cache: Path, artifact_id: str, file: str = MODEL) -> Artifact | None:
    """The artifact, if it is there and `file` of it as large as its manifest says."""
    path = _place(cache, artifact_id) / file
    manifest = manifest_of(cache, artifact_id)
    try:
        size = size_bytes(path)
    except OSError:
        return None
    match manifest:
        case {"artifact_id": known, "bytes": int(wanted), "sha256": str(sha256)} if (known, wanted) == (
            artifact_id,
            size,
        ):
            peak, tool = manifest.get("peak_rss_bytes"), manifest.get("tool")
            return Artifact(
                artifact_id=artifact_id,
                path=path,
                bytes=size,
                sha256=sha256,
                build_s=None,
                peak_rss_bytes=peak if isinstance(peak, int) else None,
                tool=tool if isinstance(tool, str) else None,
            )
        case _:
            return None


def manifest_of(cache: Path, artifact_id: str) -> Mapping[str, Any]:
    """What the artifact's manifest says, by the names of `Manifest`; empty where there is none that can be read."""
    try:
        found = json.loads((_place(cache, artifact_id) / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def making(cache: Path, artifact_id: str) -> Iterator[Path]:
    """The right to make `artifact_id`, and an empty folder to make it in.

    Waits while another process or thread makes the same one; a process that dies gives its right back, and
    the next one removes what it left. The folder is gone afterwards unless it was published.

    Raises:
        ArtifactError: the cache cannot be written.
    """
    place = _place(cache, artifact_id)
    try:
        (cache / _LOCKS).mkdir(parents=True, exist_ok=True)
        (cache / _STAGING).mkdir(exist_ok=True)
        lock = os.open(cache / _LOCKS / place.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(cache, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in (cache / _STAGING).glob(f"{place.name}.*"):
                shutil.rmtree(leftover, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=cache / _STAGING))
        except OSError as error:
            raise unwritable(cache, error) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def publish(cache: Path, folder: Path, manifest: Manifest, file: str = MODEL) -> Artifact:
    """Put a made folder into its place, durable and whole; a broken one there gives way.

    Raises:
        OSError: no room, no rights.
    """
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    folder.chmod(0o755)
    for path in (*_files(folder / file), folder / file, folder / MANIFEST, folder):
        sync(path)
    place = _place(cache, manifest.artifact_id)
    if place.exists():
        aside = folder.with_name(f"{folder.name}.old")
        place.rename(aside)
        folder.rename(place)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        folder.rename(place)
    sync(cache)
    return Artifact(
        artifact_id=manifest.artifact_id,
        path=place / file,
        bytes=manifest.bytes,
        sha256=manifest.sha256,
        build_s=manifest.build_s,
        peak_rss_bytes=manifest.peak_rss_bytes,
        tool=manifest.tool,
    )


def unwritable(cache: Path, error: OSError) -> ArtifactError:
    """The sentence for a cache that refused a write."""
    why = error.strerror or str(error)
    return ArtifactError(
        f"the artifact cache {cache} cannot be written: {why}{_room(cache)}; "
        "make room or set FLEETBENCH_CACHE to another folder"
    )


def size_bytes(path: Path) -> int:
    """Of a file, or of all files of a checkpoint's folder; raises OSError where there is neither."""
    return sum(file.stat().st_size for file in _files(path)) if path.is_dir() else path.stat().st_size


def _files(path: Path) -> list[Path]:
    """Files of a folder, and of folders in it; none of what is a file itself."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else []


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _place(cache: Path, artifact_id: str) -> Path:
    if not _SAFE_ID.fullmatch(artifact_id):
        raise ValueError(f"not an artifact id: {artifact_id!r}")
    return cache / artifact_id


def _room(cache: Path) -> str:
    try:
        return f" ({shutil.disk_usage(cache).free / 1e6:.0f} MB free)"
    except OSError:
        return ""
