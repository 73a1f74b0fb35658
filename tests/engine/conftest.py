"""Real processes: what they say over a FIFO, when they are dead, and an engine of known behaviour."""

from __future__ import annotations

import http.server
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleetbench.engine.protocol import Ask, ColdStart, Command, LaunchSpec, Said, Sign
from fleetbench.engine.runtime import NodeEngine, Program
from fleetbench.matrix.types import KvFormat, Recipe

LIMIT_MS = 30_000
FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
FAKE_DOCKER = Path(__file__).with_name("fake_docker.py")


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """The port of a server in this process, until the block ends."""
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class Fifo:
    """What processes under test say, line by line, by opening `path` for writing."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDWR)
        self._text = b""

    def line(self) -> str:
        poller = select.poll()
        poller.register(self._end, select.POLLIN)
        while b"\n" not in self._text:
            assert poller.poll(LIMIT_MS), f"nothing more was said than {self._text!r}"
            self._text += os.read(self._end, 4096)
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        os.close(self._end)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    said = Fifo(tmp_path / "said")
    yield said
    said.close()


@pytest.fixture
def dies() -> Callable[[int], bool]:
    """Whether a process of this pid ends (or is gone already); waits for it."""

    def wait(pid: int) -> bool:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        ended = bool(poller.poll(LIMIT_MS))
        os.close(handle)
        return ended

    return wait


@dataclass(slots=True)
class Fake:
    """An adapter for fake_engine.py: what it asks for and says is what a test gives it."""

    kind: str = "good"
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    wanted: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    reset: Ask | None = None
    signs: tuple[Sign, ...] = ()
    alias: str | None = None
    port: int | None = None
    name: str = "fake"
    package: str | None = None
    program: str = "fake-engine"
    version_argv: tuple[str, ...] = ("fake-engine", "-c", "print('version 1.2')")
    health: str = "/health"
    asks: tuple[str, ...] = ("/info", "/nothing")

    def command(self, spec: LaunchSpec, version: str, folder: Path, port: int) -> Command:
        told = [
            "--version",
            version,
            "--folder",
            str(folder),
            "--model",
            str(spec.model_path),
            "--name",
            spec.model_name,
        ]
        argv = (
            "fake-engine",
            str(FAKE_ENGINE),
            "--kind",
            self.kind,
            "--port",
            str(self.port or port),
            *told,
            *spec.args,
        )
        return Command(argv=argv, env=self.env, files=self.files, alias=self.alias)

    def requested(self, spec: LaunchSpec) -> dict[str, Any]:
        return {"kind": self.kind, **self.wanted} if spec else {}

    def effective(self, said: Said) -> dict[str, Any]:
        info = said.answers["/info"] or {}
        config = said.answers["config.json"] or {}
        return {
            "kind": info.get("kind"),
            "nothing": said.answers["/nothing"],
            "log": said.log,
            "quantization": config.get("quantization_config"),
        }

    def cold(self, log: str) -> ColdStart:
        return ColdStart(load_s=float(len(log) > 0))


def fake_spec(tmp_path: Path, **otherwise: Any) -> LaunchSpec:
    """A specification with a model file that is there."""
    model = tmp_path / "model.gguf"
    model.touch()
    common: dict[str, Any] = {
        "model_path": model,
        "model_name": "tiny",
        "checkpoint": "gguf",
        "recipe": Recipe(name="f16", weights="f16", kv=KvFormat(k="f16", v="f16")),
        "slots": 2,
        "context_tok": 256,
        "threads": 1,
        "seed": 7,
        "log": tmp_path / "engine.log",
        "timeout_s": 60,
    }
    return LaunchSpec(**{**common, **otherwise})


PYTHON = NodeEngine(name="fake", runtime=Program(path=Path(sys.executable)))
"""The interpreter in place of the fake's program: it runs the script that comes first among the arguments."""
