"""A machine joins a fleet as what it is, or is told why not; and leaves it without a trace."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleetbench import __version__
from fleetbench.engine.guard import alive
from fleetbench.engine.lease import LEASE_ENV
from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.fleet.nodes import cluster_token, labels
from fleetbench.fleet.nodes.connection import check_ray
from fleetbench.fleet.nodes.facts import NodeFacts
from fleetbench.fleet.nodes.head import Head, LivingNode, left_over, reach
from fleetbench.fleet.nodes.joining import (
    Joining,
    check_head,
    check_visible,
    free_name,
    hardware,
    last_words,
    ray_command,
    ray_environment,
    with_pool,
)
from fleetbench.fleet.nodes.processes import MARK, RAYLET, LocalNode, end, local_nodes, name_of, processes
from fleetbench.fleet.nodes.start import ray_program
from fleetbench.fleet.nodes.up import taken_names
from tests.cli.shell import Said
from tests.fleet.cluster import FakeNode, bare_facts, fleet, free_ports
from tests.fleet.nodes.test_labels import with_gpus

ENGINES = {"llamacpp": "2026.10"}


def usable(facts: NodeFacts) -> NodeFacts:
    return replace(facts, engines=ENGINES)


def renamed(facts: NodeFacts, index: int, name: str, kind: str | None) -> NodeFacts:
    devices = [replace(one, name=name, kind=kind) if one.index == index else one for one in facts.devices]
    return replace(facts, devices=tuple(devices))


def refusal(facts: NodeFacts, simulate: str | None = None, *, head: bool = False) -> str:
    with pytest.raises((UnusableEnvironmentError, InputError)) as caught:
        hardware(facts, simulate, head=head)
    return str(caught.value)


def test_a_node_is_tagged_by_its_devices() -> None:
    assert hardware(usable(with_gpus(8)), None, head=False) == ("h100", 8)
    assert hardware(usable(with_gpus(1)), None, head=True) == ("h100", 1)


def test_devices_of_several_kinds_or_of_none_are_refused_by_name() -> None:
    mixed = renamed(usable(with_gpus(2)), 0, "NVIDIA A100-SXM4-40GB", "a100-40g")
    assert "several kinds (a100-40g, h100)" in refusal(mixed)
    unknown = refusal(renamed(usable(with_gpus(2)), 1, "NVIDIA X1000", None))
    assert "NVIDIA X1000" in unknown
    assert "FLEETBENCH_CATALOG" in unknown


def test_a_machine_without_gpus_is_a_head_or_plays_some_or_is_refused() -> None:
    assert "--simulate h100:8" in refusal(usable(bare_facts()))
    assert hardware(bare_facts(), None, head=True) == (None, 0)
    assert hardware(usable(bare_facts()), "h100", head=False) == ("sim-h100", 8)
    assert hardware(usable(bare_facts()), "sim-mi300x:2", head=False) == ("sim-mi300x", 2)
    assert hardware(usable(bare_facts()), "h100-sxm:2", head=False) == ("sim-h100", 2)


@pytest.mark.parametrize(
    ("word", "hint"), [(":8", "as in h100:8"), ("h10", "did you mean h100"), ("h100:0", "h100:8"), ("h100:x", "h100:8")]
)
def test_what_cannot_be_played_is_refused_with_what_can(word: str, hint: str) -> None:
    assert hint in refusal(usable(bare_facts()), word)


def test_a_machine_that_cannot_be_read_or_start_an_engine_is_refused() -> None:
    assert "the driver is too old" in refusal(replace(usable(with_gpus(8)), problem="the driver is too old"))
    idle = refusal(replace(with_gpus(8), unusable={"vllm": "no such folder"}))
    assert "vllm: no such folder" in idle


def test_a_variable_that_hides_gpus_is_refused_and_one_that_hides_none_is_not() -> None:
    with pytest.raises(UnusableEnvironmentError, match="CUDA_VISIBLE_DEVICES=0,1"):
        check_visible(with_gpus(8), {"CUDA_VISIBLE_DEVICES": "0,1"})
    check_visible(with_gpus(2), {"CUDA_VISIBLE_DEVICES": "0,1"})
    check_visible(bare_facts(), {"CUDA_VISIBLE_DEVICES": ""})


def test_a_name_is_unlike_those_that_are_taken() -> None:
    assert free_name("box", frozenset()) == "box"
    assert free_name("box", frozenset({"box", "box-2"})) == "box-3"
    assert free_name("__", frozenset()) == "node"
    assert len(free_name("x" * 70, frozenset({"x" * 63}))) <= 63


def test_a_pool_that_is_no_label_is_refused() -> None:
    assert with_pool(bare_facts(), "trial").pool == "trial"
    for pool in ("a b", ""):
        with pytest.raises(InputError, match=f"--pool '{pool}'"):
            with_pool(bare_facts(), pool)


def joining(**more: object) -> Joining:
    one = Joining(facts=usable(with_gpus(8)), tag="h100", gpus=8, name="box", folder=Path("/fb/1"), address="h:1")
    return replace(one, **more)  # type: ignore[arg-type]


def option(command: list[str], name: str) -> str | None:
    return next((word.partition("=")[2] for word in command if word.startswith(f"{name}=")), None)


def test_the_command_carries_labels_gpus_and_the_node_s_share() -> None:
    command = ray_command(joining(), Path("/venv/bin/ray"))
    assert command[:2] == ["/venv/bin/ray", "start"]
    said = dict(pair.split("=") for pair in (option(command, "--labels") or "").split(","))
    assert said[labels.GPU] == "h100"
    assert json.loads(option(command, "--resources") or "") == {"fb_node": 1}
    assert (option(command, "--address"), option(command, "--num-gpus")) == ("h:1", "8")
    assert option(command, "--dashboard-host") is None


def test_a_head_without_gpus_cannot_be_measured_on_and_shows_its_dashboard_to_itself_alone() -> None:
    command = ray_command(joining(tag=None, gpus=0, address=None, port=7000), Path("ray"))
    assert "--head" in command
    assert (option(command, "--port"), option(command, "--num-gpus")) == ("7000", "0")
    assert option(command, "--dashboard-host") == "127.0.0.1"
    assert json.loads(option(command, "--resources") or "") == {}
    assert labels.GPU not in (option(command, "--labels") or "")


def test_the_environment_leaves_devices_to_the_launch_and_drops_what_it_was_started_in() -> None:
    before = {LEASE_ENV: "x@1.1", "CUDA_VISIBLE_DEVICES": "0", "RAY_ADDRESS": "a:1", "FLEETBENCH_NODE": "node.yaml"}
    found = ray_environment(joining(), dict(before))
    assert not {LEASE_ENV, "CUDA_VISIBLE_DEVICES", "RAY_ADDRESS"} & found.keys()
    assert found["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"] == "1"
    assert found["FLEETBENCH_NODE"] == str(Path.cwd() / "node.yaml")
    assert found[MARK] == "box@/fb/1"


def test_ray_s_last_words_are_told_without_colours_or_places() -> None:
    log = 'x\n\x1b[31mTraceback (most recent call last):\x1b[0m\n  File "a.py", line 1\n    ^^^^\nValueError: no\n\n'
    assert last_words(log) == "ValueError: no"
    assert last_words("\n") == "without a word"


def head_of(version: str | None) -> Head:
    node = LivingNode(
        node_id="a", name="n", address="i", port=1, labels={labels.VERSION: version} if version else {}, head=True,
        here=False, socket="",
    )  # fmt: skip
    ours = check_ray(Head(address="h:1", ray=None, python=None, dashboard=None, nodes=())) or ""
    found = re.search(r"this machine Ray (\S+) on Python ([\d.]+\d)", ours)
    assert found
    return Head(address="h:1", ray=found[1], python=found[2], dashboard=None, nodes=(node,))


def test_a_head_of_another_version_is_refused_with_both() -> None:
    check_head(head_of(__version__))
    check_head(head_of(None))
    with pytest.raises(UnusableEnvironmentError, match=rf"fleetbench 0\.0\.1, this machine {__version__}"):
        check_head(head_of("0.0.1"))
    with pytest.raises(UnusableEnvironmentError, match=r"Ray 2\.1"):
        check_head(replace(head_of(__version__), ray="2.1"))


@dataclass(frozen=True)
class Machine:
    """`fleetbench` with a home and a place of its own."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        bare = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "FLEETBENCH_", "XDG_"))}
        return {**bare, "HOME": str(self.home), "RAY_TMPDIR": str(self.home), "COLUMNS": "80"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "fleetbench", *arguments],
            env=self.environment,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> Said:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=180)
        return Said(process.returncode, out, err)

    def token(self, text: str) -> Path:
        path = self.home / "another-token"
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def nodes(self) -> list[LocalNode]:
        return [node for node in local_nodes() if node.folder.is_relative_to(self.home)]


@contextmanager
def new_machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="fbj-", dir="/tmp") as folder:
        machine = Machine(Path(folder))
        try:
            yield machine
        finally:
            for node in machine.nodes():
                end(node)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with new_machine() as found:
        yield found


@dataclass(frozen=True)
class Headed:
    """A machine with a head; dashboard: its port; said: by `node up`."""

    machine: Machine
    port: int
    dashboard: int
    said: Said

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def headed() -> Iterator[Headed]:
    with new_machine() as machine:
        port, dashboard = free_ports(2)
        ports = ("--port", str(port), "--dashboard-port", str(dashboard))
        yield Headed(machine, port, dashboard, machine.run("node", "up", "--head", *ports))


@pytest.mark.ray
def test_a_head_makes_the_token_and_says_how_others_join(headed: Headed) -> None:
    assert headed.said.code == 0, headed.said.err
    token = headed.machine.home / ".config" / "fleetbench" / "token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert f"{token} (made now)" in headed.said.out
    assert re.search(rf"fleetbench node up --address \S+:{headed.port}", headed.said.out)
    assert token.read_text().strip() not in headed.said.out + headed.said.err
    assert f"--address http://127.0.0.1:{headed.dashboard}\n" in headed.said.out
    assert "warning" not in headed.said.err


@pytest.mark.ray
def test_a_node_joins_on_the_same_machine_is_seen_and_leaves_without_a_trace(headed: Headed) -> None:
    machine = headed.machine
    joined = machine.run("node", "up", "--address", headed.address, "--simulate", "h100:2", "--pool", "trial")
    assert joined.code == 0, joined.err
    assert "tagged sim-h100" in joined.out
    assert max(map(len, joined.out.splitlines())) <= 80
    (node,) = [node for node in machine.nodes() if not node.head]
    found = machine.run("nodes", "--address", headed.address, "--format", "json")
    (row,) = json.loads(found.out)
    assert (row["state"], row["pool"], row["gpus_free"], row["node"]) == ("ready", "trial", 2, node.name)
    several = machine.run("node", "down")
    assert several.code == 2
    assert "name those to end" in several.err
    everything = processes(node)
    assert machine.run("node", "down", node.name).code == 0
    assert not [process for process in everything if alive(*process)]
    assert not node.folder.exists()
    assert [left.head for left in machine.nodes()] == [True]
    left = machine.run("nodes", "--address", headed.address)
    assert (left.code, "no node of the cluster" in left.out) == (1, True)


UNNOTICED = {"RAY_health_check_initial_delay_ms": "600000", "RAY_health_check_period_ms": "600000"}
"""A head that takes a node that died without a word for living."""


@pytest.mark.fleet
@pytest.mark.ray
def test_a_node_that_is_back_before_its_death_was_noticed_takes_its_own_name_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with fleet([FakeNode(tag="sim-h100", name="box"), FakeNode(tag="sim-h100", name="other")], env=UNNOTICED) as up:
        for name in (cluster_token.MODE, cluster_token.PATH):
            monkeypatch.setenv(name, up.env[name])
        assert {"box", "other"} <= taken_names(up.address, up.token)
        up.kill("box")
        known = {node.name for node in reach(up.address, up.token).nodes}
        assert "box" in known, "the head has not noticed"
        up.signal("other", signal.SIGSTOP)
        taken = taken_names(up.address, up.token)
        up.signal("other", signal.SIGCONT)
        assert "box" not in taken
        assert "other" in taken, "what is slow is not gone"
        assert free_name("box", taken) == "box"


def test_an_entry_of_another_machine_is_left_alone() -> None:
    elsewhere = head_of(None).nodes[0]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert not left_over(replace(elsewhere, address="127.0.0.1", port=port))
    assert left_over(replace(elsewhere, address="127.0.0.1", port=port))
    assert not left_over(replace(elsewhere, address="192.0.2.1", port=port)), "an address that is nobody's"


@pytest.mark.ray
def test_a_second_head_on_a_port_that_is_taken_is_refused(headed: Headed) -> None:
    again = headed.machine.run("node", "up", "--head", "--port", str(headed.port))
    assert again.code == 4
    assert f"port {headed.port} cannot be had" in again.err


@pytest.mark.ray
def test_joining_with_another_token_is_refused(headed: Headed) -> None:
    wrong = headed.machine.token("b" * 64)
    said = headed.machine.run("node", "up", "--address", headed.address, "--token", str(wrong), "--simulate", "h100")
    assert said.code == 4
    assert "has another token than" in said.err
    assert len(headed.machine.nodes()) == 1


@pytest.mark.ray
@pytest.mark.fleet
def test_a_cluster_that_asks_for_no_token_is_not_joined(machine: Machine) -> None:
    (port,) = free_ports(1)
    open_head = joining(
        facts=bare_facts(),
        tag=None,
        gpus=0,
        name="open",
        folder=machine.home / "1",
        address=None,
        port=port,
        alone=False,
    )
    open_head.folder.mkdir()
    environment = {**ray_environment(open_head, machine.environment), "RAY_AUTH_MODE": "disabled"}
    command = [*ray_command(open_head, ray_program()), "--include-dashboard=false"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    token = machine.token("a" * 64)
    address = f"127.0.0.1:{port}"
    said = machine.run("node", "up", "--address", address, "--token", str(token), "--simulate", "h100")
    assert said.code == 4
    assert "asks for no token" in said.err


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.fleet)])
def test_in_the_foreground_a_node_ends_by_sigterm_and_says_when_ray_died(
    headed: Headed, number: signal.Signals
) -> None:
    joined = ("node", "up", "--address", headed.address, "--simulate", "h100", "--block")
    with headed.machine.start(*joined) as process:
        assert process.stdout is not None
        assert any("leave" in line for line in process.stdout)
        (node,) = [node for node in headed.machine.nodes() if not node.head]
        everything = processes(node)
        raylet = next(pid for pid, _ in everything if name_of(pid) == RAYLET)
        os.kill(process.pid if number is signal.SIGTERM else raylet, number)
        out, err = process.communicate(timeout=60)
    assert not [one for one in everything if alive(*one)]
    if number is signal.SIGTERM:
        assert (process.returncode, "is down" in out) == (0, True)
    else:
        assert (process.returncode, "Ray died on this machine" in err) == (4, True)


def test_a_dry_run_prints_labels_and_command_and_starts_nothing(machine: Machine) -> None:
    said = machine.run("node", "up", "--address", "nobody.invalid:1", "--simulate", "mi300x:4", "--dry-run")
    assert said.code == 0, said.err
    assert re.search(r"fleetbench\.io/gpu +sim-mi300x\n", said.out)
    command = shlex.split(said.out.splitlines()[-1])
    assert option(command, "--num-gpus") == "4"
    assert not machine.nodes()
    assert not (machine.home / ".config").exists()


def test_a_machine_that_cannot_join_is_told_why_and_nothing_is_left(machine: Machine) -> None:
    (port,) = free_ports(1)
    simulated = ("--simulate", "h100:8")
    without = machine.run("node", "up", "--address", f"127.0.0.1:{port}", *simulated)
    assert without.code == 4
    assert "there is no cluster token at" in without.err
    token = machine.token("a" * 64)
    unreachable = machine.run("node", "up", "--address", f"127.0.0.1:{port}", "--token", str(token), *simulated)
    assert unreachable.code == 4
    assert f"nothing listens at 127.0.0.1:{port}" in unreachable.err
    for wrong in ((), ("--head", "--address", "h:1"), ("--address", "h:1", "--port", "7"), ("--address", "h:x")):
        assert machine.run("node", "up", *wrong).code == 2
    assert machine.run("node", "down", "nobody").code == 2
    assert not machine.nodes()
