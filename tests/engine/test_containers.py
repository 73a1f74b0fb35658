from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fleetbench.engine import around, containers, lease, registry, remove, runtime, start
from fleetbench.engine.protocol import LaunchError
from fleetbench.engine.runtime import Container, NodeEngine
from fleetbench.engine.session import EngineSession
from tests.engine.conftest import FAKE_DOCKER, Fake, fake_spec
from tests.engine.test_start import AWKWARD

IMAGE = "fake/engine@sha256:" + "0" * 64
ENGINE = NodeEngine(name="fake", runtime=Container(image=IMAGE))
SAY_VERSION = (sys.executable, "-c", "print('version 1.2')")
OWNER = """
import sys
from pathlib import Path
from tests.engine.test_containers import launch
session = launch(Path(sys.argv[1]))
print(session.guarded.guard_pid, flush=True)
sys.stdin.read()
"""


class InAnImage(Fake):
    """The fake engine as an image would have it: its program is found there by name, here it is the interpreter."""

    def command(self, *given: Any) -> Any:
        command = super().command(*given)
        return type(command)(argv=(sys.executable, *command.argv[1:]), env=command.env, files=command.files)


class Docker:
    """The stand-in's daemon, and what its clients asked of it."""

    def __init__(self, record: Path) -> None:
        self.record = record

    def asked(self, verb: str) -> list[list[str]]:
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return [argv for argv in map(json.loads, lines) if argv[0] == verb]

    def names(self) -> list[str]:
        listing = ["docker", "ps", "--all", "--quiet", "--filter", "name=fleetbench-"]
        return subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    folder, place, record = tmp_path / "bin", tmp_path / "docker.sock", tmp_path / "asked"
    folder.mkdir()
    program = folder / "docker"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {FAKE_DOCKER} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_DOCKER", str(place))
    argv = [sys.executable, "-IS", str(FAKE_DOCKER), "daemon", str(place), str(record)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "ready\n"
        held = Docker(record)
        yield held
        for name in held.names():
            remove.remove("docker", name)
        daemon.kill()


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as held:
        yield held


@pytest.fixture
def engine_of(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """What the engine in the container left of itself."""
    return lambda: json.loads((tmp_path / "record").read_text())


def launch(tmp_path: Path, kind: str = "good", engine: NodeEngine = ENGINE) -> EngineSession:
    adapter = InAnImage(kind=kind, env={"FAKE_RECORD": str(tmp_path / "record")}, version_argv=SAY_VERSION)
    return start.start(adapter, engine, fake_spec(tmp_path), lease.new_lease("test"))


def test_an_engine_in_a_container_comes_up_and_its_stop_removes_the_container(
    docker: Docker, tmp_path: Path, engine_of: Callable[[], dict[str, Any]]
) -> None:
    with launch(tmp_path) as session:
        assert session.receipt.version == "1.2"
        assert session.receipt.differences == ()
        assert docker.names() == [runtime.container_name(lease.new_lease("test"))]
        told = engine_of()
        assert told["env"][f"INSIDE_{lease.LEASE_ENV}"] == lease.new_lease("test")
        assert "HOME" not in told["env"]
        assert session.alive()
    assert session.exit_cause() == "stopped"
    assert docker.names() == []
    ended = session.guarded.poll()
    assert ended is not None
    assert ended.clean


def test_awkward_words_reach_the_engine_in_a_container_as_one_argument_each(
    docker: Docker, tmp_path: Path, engine_of: Callable[[], dict[str, Any]]
) -> None:
    spec = fake_spec(tmp_path, args=AWKWARD, model_name="--rm")
    env = {"FAKE_RECORD": str(tmp_path / "record"), "LINES": "a\nb=c"}
    adapter = InAnImage(env=env, version_argv=SAY_VERSION)
    with start.start(adapter, ENGINE, spec, lease.new_lease("test")):
        told = engine_of()
    assert told["argv"][-len(AWKWARD) :] == list(AWKWARD)
    assert told["argv"][told["argv"].index("--name") + 1] == "--rm"
    assert told["env"]["LINES"] == "a\nb=c"
    assert docker.names() == []


def test_a_container_that_ignores_its_termination_is_removed_by_force(docker: Docker, tmp_path: Path) -> None:
    session = launch(tmp_path)
    os.kill(session.guarded.engine_pid, signal.SIGSTOP)
    session.guarded.kill()
    assert docker.names() == []
    assert docker.asked("rm") == [["rm", "--force", runtime.container_name(lease.new_lease("test"))]]


def test_a_container_ends_with_the_guard_of_its_client(docker: Docker, tmp_path: Path) -> None:
    session = launch(tmp_path)
    os.kill(session.guarded.guard_pid, signal.SIGKILL)
    session.guarded.wait(30)
    assert docker.names() == []
    assert session.exit_cause() == "crashed"


def test_a_killed_client_takes_its_container_along(docker: Docker, tmp_path: Path) -> None:
    session = launch(tmp_path)
    os.kill(session.guarded.engine_pid, signal.SIGKILL)
    session.guarded.wait(60)
    assert docker.names() == []


def test_a_killed_owner_leaves_no_container(docker: Docker, tmp_path: Path, dies: Callable[[int], bool]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as owner:
        assert owner.stdout is not None
        guard = int(owner.stdout.readline())
        assert len(docker.names()) == 1
        owner.kill()
    assert dies(guard)
    assert docker.names() == []


def test_an_engine_that_dies_in_its_container_says_why(docker: Docker, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="CUDA out of memory") as caught:
        launch(tmp_path, kind="exit:RuntimeError: CUDA out of memory")
    assert caught.value.cause == "oom"
    assert docker.names() == []


def test_an_image_that_is_not_on_the_node_is_named_with_the_remedy(docker: Docker, tmp_path: Path) -> None:
    image = "fake/absent@sha256:" + "0" * 64
    engine = NodeEngine(name="fake", runtime=Container(image=image))
    with pytest.raises(LaunchError, match=f"docker pull {image}") as caught:
        launch(tmp_path, engine=engine)
    assert caught.value.cause == "runtime"
    assert docker.asked("rm") == []


@contextlib.contextmanager
def client(argv: Sequence[str]) -> Iterator[None]:
    """A client of the stand-in, which ends with what it runs."""
    with subprocess.Popen(argv) as process:
        yield
        remove.remove("docker", argv[argv.index("--name") + 1])
        process.wait()


def test_a_sweep_removes_containers_of_dead_owners_on_this_machine_alone(
    docker: Docker, tmp_path: Path, stack: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = f"dead@{os.getpid()}.1"
    labels = {
        "left": (dead, around.home()),
        "elsewhere": (dead, "other.1"),
        "owned": (lease.new_lease("x"), around.home()),
    }
    for name, (held, machine) in labels.items():
        runs = tmp_path / name
        os.mkfifo(runs)
        options = ["--name", f"fleetbench-{name}", "--label", f"{runtime.LEASE_LABEL}={held}"]
        options += ["--label", f"{runtime.HOME_LABEL}={machine}"]
        script = ["-c", 'echo runs > "$0"; exec sleep 1000', str(runs)]
        stack.enter_context(client(runtime.run_once(Container(image=IMAGE), "/bin/sh", script, options)))
        assert runs.read_text() == "runs\n"
    settings = tmp_path / "node.yaml"
    settings.write_text(f"engines: {{fake: {{container: '{IMAGE}'}}}}")
    monkeypatch.setenv("FLEETBENCH_NODE", str(settings))
    monkeypatch.setattr(registry, "names", lambda: ["fake"])
    start.sweep()
    assert docker.names() == ["fleetbench-elsewhere", "fleetbench-owned"]


def test_a_sweep_passes_over_a_tool_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert containers.sweep([ENGINE]) == []


def test_a_removal_that_cannot_be_sure_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not remove.remove("docker", "x")
    assert "cannot remove the container x" in capfd.readouterr().err
