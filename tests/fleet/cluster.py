"""A fake fleet on this machine for tests: a real head and real raylets, in token mode, each as `node up` starts it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fleetbench import __version__
from fleetbench.engine.guard import send
from fleetbench.fleet.nodes import cluster_token
from fleetbench.fleet.nodes.facts import NodeFacts
from fleetbench.fleet.nodes.joining import Joining, ray_command, ray_environment
from fleetbench.fleet.nodes.processes import GCS, RAYLET, LocalNode, Process, end, name_of, processes
from fleetbench.fleet.nodes.start import ray_program
from fleetbench.plan.nodes import Use

START_S = 120
QUICK_HEALTH = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""A raylet that is stopped or cut off is dead after about three seconds, where Ray by itself takes a minute."""


@dataclass(frozen=True, kw_only=True)
class FakeNode:
    """A node to start: its tag, GPUs that Ray counts there, and labels in place of those that it would have."""

    tag: str
    gpus: int = 8
    name: str = ""
    use: Use = "whole"
    pool: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class FakeFleet:
    """A cluster that is up; env: for processes that are to use it; nodes: by name, the head is `head`."""

    address: str
    token: Path
    env: dict[str, str]
    nodes: dict[str, LocalNode]

    def processes(self, name: str) -> list[Process]:
        return processes(self.nodes[name])

    def pids(self, name: str, kind: str = RAYLET) -> list[Process]:
        """The node's processes of that kind: `raylet`, `gcs_server`."""
        return [process for process in self.processes(name) if name_of(process[0]) == kind]

    def signal(self, name: str, number: signal.Signals = signal.SIGKILL, kind: str = RAYLET) -> None:
        """Send a signal to the node's raylet, or another of its processes: SIGSTOP is a partition."""
        for pid, ticks in self.pids(name, kind):
            send(pid, ticks, number)

    def kill(self, name: str) -> None:
        """Kill all of a node's processes at once, as a machine does that loses its power."""
        for pid, ticks in self.processes(name):
            send(pid, ticks, signal.SIGKILL)

    def kill_head(self) -> None:
        self.signal("head", kind=GCS)

    def take_down(self, name: str) -> None:
        """End a node as `node down` does."""
        end(self.nodes.pop(name))

    def add(self, *wanted: FakeNode | tuple[str, int]) -> list[str]:
        """Start more nodes, side by side; returns their names."""
        nodes = [one if isinstance(one, FakeNode) else FakeNode(tag=one[0], gpus=one[1]) for one in wanted]
        joining = [self._joining(node, f"{node.name or f'{node.tag}-{self._number()}'}") for node in nodes]
        _start([(one, node.labels) for one, node in zip(joining, nodes, strict=True)], self.env)
        return [one.name for one in joining]

    def _number(self) -> int:
        return len(self.nodes)

    def _joining(self, node: FakeNode, name: str) -> Joining:
        folder = self.token.parent / str(len(self.nodes))
        folder.mkdir()
        self.nodes[name] = LocalNode(name=name, folder=folder, address=self.address, tag=node.tag)
        facts = bare_facts(pool=node.pool, use=node.use)
        return Joining(
            facts=facts, tag=node.tag, gpus=node.gpus, name=name, folder=folder, address=self.address, alone=False
        )


@contextmanager
def fleet(
    nodes: Sequence[FakeNode | tuple[str, int]] = (),
    *,
    token: str | None = None,
    env: Mapping[str, str] | None = None,
    dashboard: bool = False,
    quick_health: bool = False,
) -> Iterator[FakeFleet]:
    """A cluster of these nodes and an untagged head, gone afterwards.

    Args:
        nodes: tags with GPU counts (`("sim-h100", 8)`), or more of each; named `TAG-NUMBER` unless they say else.
        token: the cluster's; a fresh one where left out.
        env: more of the environment of all its processes.
        dashboard: start Ray's dashboard and job server too, at `env["DASHBOARD"]` (costs seconds).
        quick_health: notice a dead node within seconds.
    """
    folder = Path(tempfile.mkdtemp(prefix="fbt-", dir="/tmp"))
    token_file = folder / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(token or secrets.token_hex(32))
    port, dashboard_port = free_ports(2)
    environment = {**os.environ, **(QUICK_HEALTH if quick_health else {}), **(env or {})}
    cluster_token.hand_to_ray(token_file, environment)
    head = Joining(
        facts=bare_facts(), tag=None, gpus=0, name="head", folder=folder / "0", address=None, port=port,
        dashboard_port=dashboard_port, client_port=None, alone=False,
    )  # fmt: skip
    head.folder.mkdir()
    environment |= {"RAY_ADDRESS": f"127.0.0.1:{port}", "DASHBOARD": f"http://127.0.0.1:{dashboard_port}"}
    up = FakeFleet(
        address=f"127.0.0.1:{port}",
        token=token_file,
        env=environment,
        nodes={"head": LocalNode(name="head", folder=head.folder, address=None, tag=None, head=True)},
    )
    try:
        _start([(head, {})], environment, f"--include-dashboard={str(dashboard).lower()}")
        up.add(*nodes)
        yield up
    finally:
        for node in sorted(up.nodes.values(), key=lambda node: node.head):
            for pid, ticks in processes(node):
                send(pid, ticks, signal.SIGKILL)
            end(node)
        shutil.rmtree(folder, ignore_errors=True)


def bare_facts(*, pool: str = "default", use: Use = "whole") -> NodeFacts:
    """Facts of a machine without GPUs."""
    return NodeFacts(
        host=socket.gethostname(), version=__version__, python="", devices=(), driver=None, engines={}, unusable={},
        use=use, pool=pool, cache="", cache_free_bytes=None, wall_s=0.0,
    )  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _start(nodes: Sequence[tuple[Joining, Mapping[str, str]]], environment: Mapping[str, str], *more: str) -> None:
    """All of them side by side; a failure has what Ray said."""
    started = [(joining, _ray_start(joining, labels, environment, more)) for joining, labels in nodes]
    for joining, process in started:
        if process.wait(timeout=START_S):
            raise RuntimeError((joining.folder / "ray-start.log").read_text())


def _ray_start(
    joining: Joining, labels: Mapping[str, str], environment: Mapping[str, str], more: Sequence[str]
) -> subprocess.Popen[bytes]:
    said = ",".join(f"{key}={value}" for key, value in {**joining.labels, **labels}.items())
    command = [
        f"--labels={said}" if part.startswith("--labels=") else part for part in ray_command(joining, ray_program())
    ]
    with (joining.folder / "ray-start.log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--num-cpus=1", "--include-log-monitor=false", *more],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=ray_environment(joining, dict(environment)),
            cwd=joining.folder,
            start_new_session=True,
        )
