"""Which version of an engine this node has, read where it is; and whether it can be used at all."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_here
from pathlib import Path

from fleetbench.engine import around, lease, registry, settings
from fleetbench.engine.client import request
from fleetbench.engine.protocol import Command, EngineAdapter, EngineUnreachableError
from fleetbench.engine.remove import remove
from fleetbench.engine.runtime import Container, NodeEngine, Url, Venv, Wheel, container_name, identity, run_once, wrap
from fleetbench.errors import UnusableEnvironmentError
from fleetbench.matrix.types import EngineInfo

RUN_S = 120.0
UNSAID = "0"
"""The version of a server that does not tell it, where the node's settings do not either."""
ANSWER_S = 5.0
SAYS = re.compile(r"\bversion\W+v?(\d\S*)", re.IGNORECASE)
BUILD = re.compile(r"\(build ([1-9]\d*)\b")
"""llama.cpp's own number of itself, which its releases are called by."""
NUMBER = re.compile(r"\bv?(\d+(?:\.\d+)+\S*)")
RECEIPT = "import importlib.metadata, sys; print('version', importlib.metadata.version(sys.argv[1]))"
TOLD = (("/version", "version"), ("/server_info", "version"), ("/get_server_info", "version"), ("/props", "build_info"))
"""Where servers say their version: vLLM and TensorRT-LLM, SGLang by its new and its old name, llama.cpp."""


class _SilentError(UnusableEnvironmentError):
    """A program that was given up on; what it started may still run."""


def node_engine(name: str) -> NodeEngine:
    """The engine as the node's settings have it; raises UnusableEnvironmentError where they do not name it."""
    engines = settings.read_settings().engines
    if name in engines:
        return engines[name]
    raise UnusableEnvironmentError(
        f"this node's settings do not say where {name} is: write it under `engines:` in {settings.settings_path()}, "
        f"as `{name}: {{venv: FOLDER}}`, or `container:`, `path:`, `url:`"
    )


def info(name: str) -> EngineInfo:
    """What the engine is here; raises UnusableEnvironmentError, saying why it cannot be used."""
    adapter = registry.engine(name)
    found = version(adapter, node_engine(name))
    return EngineInfo(name=name, version=found, toolchain=f"{adapter.package or adapter.program} {found}")


def availability(name: str) -> str | None:
    """None where the engine can be started here, else why not and the remedy."""
    return look(name)[1]


def look(name: str, engine: NodeEngine | None = None) -> tuple[str | None, str | None]:
    """Its version, None where nobody can tell, and why it cannot be started here, None where it can.

    Args:
        name: of its adapter.
        engine: as the node's settings have it; read from them where left out.
    """
    found: str | None = None
    if not hasattr(os, "pidfd_open"):
        return found, "engines are guarded by Linux means (pidfd, subreaper): run it on Linux"
    try:
        adapter, engine = registry.engine(name), engine or node_engine(name)
        found = version(adapter, engine)
        if isinstance(engine.runtime, Wheel) and adapter.version_argv:
            _said(adapter.version_argv, engine)
        if isinstance(engine.runtime, Venv) and not (program := engine.runtime.path / "bin" / adapter.program).exists():
            why = f"{program} is not there: install {adapter.package or adapter.name} in {engine.runtime.path} again"
            return found, why
    except UnusableEnvironmentError as error:
        return found, str(error)
    return found, None


def version(adapter: EngineAdapter, engine: NodeEngine) -> str:
    """The receipt that an engine is there: its version, as its own files or it itself say.

    Raises:
        UnusableEnvironmentError: it is not there, or does not run.
    """
    match engine.runtime:
        case Venv(path=path) if adapter.package is not None:
            return _in_venv(path, adapter.package)
        case Wheel() if adapter.package is not None:
            return _here(adapter.package)
        case Container() as container:
            return _in_image(container, adapter.package, adapter.version_argv)
        case Url() as server:
            return _served(server)
        case _:
            return _parsed(_said(adapter.version_argv, engine), adapter.name)


def _here(package: str) -> str:
    try:
        return version_here(package)
    except PackageNotFoundError as error:
        raise UnusableEnvironmentError(f"{package} is not installed: pip install {package}") from error


def _in_venv(path: Path, package: str) -> str:
    """Out of the metadata that pip leaves; nothing is run or imported."""
    if not (path / "bin").is_dir():
        raise UnusableEnvironmentError(f"{path} is no virtual environment: python -m venv {path}")
    found = {
        told
        for metadata in path.glob("lib/python3*/site-packages/*.dist-info/METADATA")
        if _plain(metadata.parent.name.partition("-")[0]) == _plain(package)
        if (told := _version_in(metadata)) is not None
    }
    if len(found) == 1:
        return found.pop()
    remedy = f"{path / 'bin' / 'python'} -m pip install --force-reinstall {package}"
    if found:
        raise UnusableEnvironmentError(f"{path} has metadata of {package} {' and '.join(sorted(found))}: {remedy}")
    raise UnusableEnvironmentError(f"{package} is not installed in {path}: {remedy}")


def _version_in(metadata: Path) -> str | None:
    try:
        head = metadata.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return None
    found = re.search(r"^Version:\s*(\S+)", head, re.MULTILINE)
    return found[1] if found else None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _in_image(container: Container, package: str | None, argv: tuple[str, ...]) -> str:
    """A digest names the same files for ever, so that one look is enough."""
    program, *arguments = argv if package is None else ("python3", "-c", RECEIPT, package)
    held = lease.new_lease(f"version of {container.image}")
    if container.tool == "apptainer":
        command = run_once(container, program, arguments)
        return _parsed(_run(command, None, f"apptainer pull {container.reference}"), container.image)
    command = run_once(container, program, arguments, identity(held, around.home()))
    try:
        return _parsed(_run(command, None, f"{container.tool} pull {container.image}"), container.image)
    except _SilentError:
        remove(container.tool, container_name(held))
        raise


def _served(server: Url) -> str:
    for path, key in TOLD:
        try:
            answer = request(server.base_url, path, timeout_s=ANSWER_S)
        except EngineUnreachableError as error:
            raise UnusableEnvironmentError(f"{server.base_url} does not answer: {error}; start the server") from error
        value = answer.value
        told = value.get(key) if answer.status == HTTPStatus.OK and isinstance(value, dict) else None
        if isinstance(told, str) and told:
            return told
    return server.version or UNSAID


def _said(argv: Sequence[str], engine: NodeEngine) -> str:
    command = Command(argv=tuple(argv))
    process = wrap(command, engine, around.surroundings(), (), "version")
    return _run(process.argv, dict(process.env), f"install it there, or correct {settings.settings_path()}")


def _run(argv: Sequence[str], env: dict[str, str] | None, remedy: str) -> str:
    try:
        done = subprocess.run(
            argv, env=env, capture_output=True, timeout=RUN_S, check=False, stdin=subprocess.DEVNULL, cwd="/"
        )
    except OSError as error:
        raise UnusableEnvironmentError(f"{argv[0]} does not run ({error.strerror}): {remedy}") from error
    except subprocess.TimeoutExpired as error:
        raise _SilentError(f"{argv[0]} said nothing for {RUN_S:g} s: {remedy}") from error
    said = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    if done.returncode == 0:
        return said
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    why = lines[-1].strip() if lines else f"status {done.returncode}"
    raise UnusableEnvironmentError(f"{argv[0]} does not run ({why}): {remedy}")


def _parsed(said: str, name: str) -> str:
    found = BUILD.search(said) or SAYS.search(said) or NUMBER.search(said)
    if found is None:
        raise UnusableEnvironmentError(f"{name} does not say its version, but {said.strip()[:200]!r}")
    return found[1].rstrip(",;)")
