"""The Python that llmcompressor lives in: named by the user, or made once in the cache, apart from everything else."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleetbench.artifact.cache import unwritable
from fleetbench.artifact.types import ArtifactError

VARIABLE = "FLEETBENCH_LLMCOMPRESSOR"
VERSION = "0.14.0.1"
REQUIREMENTS = (
    f"llmcompressor=={VERSION}",
    "compressed-tensors==0.19.0",
    "transformers==5.17.0",
    "torch==2.13.0",
)
"""What is installed, and so what an artifact's toolchain is; torch for a CPU or a GPU, as pip finds it."""
INSTALL_LIMIT_S = 3600.0
_PROBE_LIMIT_S = 60.0
_MARK = "fleetbench.json"
_UNWANTED = (
    "PIP_CONSTRAINT",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
    "PIP_REQUIRE_VIRTUALENV",
    "PYTHONPATH",
    "PYTHONHOME",
)
"""Settings that are meant for another environment, and would bend or break this one."""
_SHOWN = 300
_PROBE = """
import json
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in ("llmcompressor", "compressed-tensors", "transformers", "torch"):
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""
_CAUSES = (
    (r"No space left on device|Disk quota exceeded", "the disk is full: make room, or set FLEETBENCH_CACHE elsewhere"),
    (
        r"NewConnectionError|not known|name resolution|unreachable|Connection refused|Timeout|timed out|ProxyError",
        f"the package index cannot be reached: connect, or set {VARIABLE} to a Python that has llmcompressor",
    ),
    (r"Permission denied|Read-only file system", "the cache cannot be written: set FLEETBENCH_CACHE elsewhere"),
    (r"ensurepip", "this Python has no venv with pip: install its venv package"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEnv:
    """A Python with llmcompressor; versions: of it and what it works with, by package."""

    python: Path
    versions: Mapping[str, str]

    def __str__(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())


def toolchain() -> str:
    """What makes compressed-tensors checkpoints, with versions: part of an artifact's identity.

    Of the same tool and so the same numbers; what it runs on (torch, transformers) stands in the artifact's manifest.
    """
    return ", ".join(requirement.replace("==", " ") for requirement in REQUIREMENTS[:2])


def find(
    cache: Path, environment: Mapping[str, str] = os.environ, *, requirements: Sequence[str] = REQUIREMENTS
) -> ToolEnv | None:
    """The environment if there is one already: the one that $FLEETBENCH_LLMCOMPRESSOR names, else the cache's.

    Raises:
        ArtifactError: the variable names something else.
    """
    named = environment.get(VARIABLE)
    if named:
        return _named(Path(named))
    place = _place(cache)
    if _marked(place) != list(requirements):
        return None
    versions = _versions(place / "bin" / "python")
    return ToolEnv(python=place / "bin" / "python", versions=versions) if "llmcompressor" in versions else None


def ensure(
    cache: Path,
    environment: Mapping[str, str] = os.environ,
    *,
    requirements: Sequence[str] = REQUIREMENTS,
    limit_s: float = INSTALL_LIMIT_S,
) -> ToolEnv:
    """The environment, made now where there is none; waits while another process makes it.

    Args:
        cache: its folder `tools` holds it, with pip's log beside it.
        environment: for pip, and for $FLEETBENCH_LLMCOMPRESSOR.
        requirements: what to install.
        limit_s: seconds that pip may take.

    Raises:
        ArtifactError: no network, no room, no rights, no such package; one sentence.
    """
    found = find(cache, environment, requirements=requirements)
    if found is not None:
        return found
    place = _place(cache)
    with _lock(cache, place) as lock:
        found = find(cache, environment, requirements=requirements)
        if found is not None:
            return found
        try:
            if place.exists():
                shutil.rmtree(place)
            _install(place, requirements, environment, limit_s=limit_s, lock=lock)
            (place / _MARK).write_text(json.dumps({"requirements": list(requirements)}), encoding="utf-8")
        except OSError as error:
            raise unwritable(cache, error) from error
    found = find(cache, environment, requirements=requirements)
    if found is None:
        raise ArtifactError(f"{place} was made and holds no llmcompressor; see {_log(place)}")
    return found


def run(
    argv: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    limit_s: float,
    folder: Path | None = None,
    keep: tuple[int, ...] = (),
) -> int | None:
    """Run a command to its end, its output added to `log`; its exit code, None where it took longer than `limit_s`.

    It and all it started end with this call, however that ends; where this process is killed they do not, and hold the
    files `keep` until they end by themselves.

    Raises:
        OSError: no such program, or the log cannot be written.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
            pass_fds=keep,
        )
        ended = False
        try:
            ended = _ends(process, limit_s)
        finally:
            _end(process)
    return process.returncode if ended else None


def tail(log: Path, size: int = 20_000) -> str:
    """The end of a log, empty where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - size))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def last_line(text: str) -> str:
    """The last line that says something; what a progress bar overwrote is no line."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    return lines[-1][:_SHOWN] if lines else "it wrote nothing"


def _install(
    place: Path, requirements: Sequence[str], environment: Mapping[str, str], *, limit_s: float, lock: int
) -> None:
    log = _log(place)
    log.write_bytes(b"")
    kept = {name: value for name, value in environment.items() if name not in _UNWANTED}
    pip = [str(place / "bin" / "python"), "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    for argv in ([sys.executable, "-I", "-m", "venv", str(place)], [*pip, *requirements]):
        code = run(argv, log=log, environment=kept, limit_s=limit_s, keep=(lock,))
        if code != 0:
            raise ArtifactError(
                f"{requirements[0]} could not be installed: {why(code, tail(log), limit_s)} (log: {log})"
            )


def why(code: int | None, text: str, limit_s: float) -> str:
    """The cause of a failed installation, out of pip's log; code: None where the time was up."""
    if code is None:
        return f"it took longer than {limit_s:g} s"
    for pattern, cause in _CAUSES:
        if re.search(pattern, text):
            return cause
    errors = [line for line in text.splitlines() if line.startswith("ERROR: ")]
    return errors[-1].removeprefix("ERROR: ")[:_SHOWN] if errors else last_line(text)


def _named(path: Path) -> ToolEnv:
    python = path / "bin" / "python" if path.is_dir() else path
    versions = _versions(python)
    found = versions.get("llmcompressor")
    if found is None:
        raise ArtifactError(
            f"{VARIABLE}={path} is no Python with llmcompressor, nor a venv of one: unset it, or correct it"
        )
    if found != VERSION:
        raise ArtifactError(f"{VARIABLE}={path} holds llmcompressor {found}; install {VERSION} there, or unset it")
    return ToolEnv(python=python.absolute(), versions=versions)


def _versions(python: Path) -> Mapping[str, str]:
    """Versions of the packages in a Python's environment, empty where it does not run."""
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _PROBE],
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_PROBE_LIMIT_S,
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return {str(name): str(version) for name, version in found.items()} if isinstance(found, dict) else {}


def _marked(place: Path) -> object:
    try:
        mark = json.loads((place / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return mark.get("requirements") if isinstance(mark, dict) else None


@contextmanager
def _lock(cache: Path, place: Path) -> Iterator[int]:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(place.with_name(f"{place.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(cache, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _ends(process: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Whether a command ended by itself within the limit. Its id stays taken until `_end`."""
    handle = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(limit_s * 1000))
    finally:
        os.close(handle)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole session of a command, and bury it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _place(cache: Path) -> Path:
    return cache.absolute() / "tools" / f"llmcompressor-{VERSION}"


def _log(place: Path) -> Path:
    return place.with_name(f"{place.name}.log")
