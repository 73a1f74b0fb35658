"""The dashboard of a head: its port is one that is free, and where it takes no jobs the reason is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleetbench import __version__
from fleetbench.fleet.nodes import dashboard
from fleetbench.fleet.nodes.start import LOG, free_port
from tests.fleet.cluster import free_ports
from tests.fleet.nodes.test_joining import Machine, head_of, new_machine


@pytest.fixture
def machine() -> Iterator[Machine]:
    with new_machine() as found:
        yield found


def test_a_dashboard_port_that_is_taken_is_refused_before_anything_is_made(machine: Machine) -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        said = machine.run("node", "up", "--head", "--port", str(port), "--dashboard-port", number)
    assert said.code == 4
    assert f"port {number} cannot be had" in said.err
    assert "another by --dashboard-port" in said.err
    own = machine.run("node", "up", "--head", "--port", str(port), "--dashboard-port", str(port))
    assert (own.code, "is the port of the head itself" in own.err) == (2, True)
    elsewhere = machine.run("node", "up", "--head", "--port", str(port), "--dashboard-host", "192.0.2.77")
    assert (elsewhere.code, "is no address of this machine" in elsewhere.err) == (4, True)
    of_a_node = machine.run("node", "up", "--address", "h:1", "--dashboard-port", number)
    assert (of_a_node.code, "--dashboard-port is of a head" in of_a_node.err) == (2, True)
    assert not machine.nodes()
    assert not (machine.home / ".config").exists()


def test_without_a_wish_the_dashboard_takes_the_next_port_that_is_free() -> None:
    first = next(port for port in range(30000, 60000) if _free(port) and _free(port + 1))
    with socket.create_server(("127.0.0.1", first)):
        assert free_port(first, "127.0.0.1") == first + 1


def _free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def test_a_dashboard_that_did_not_come_up_or_is_silent_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("a" * 64)
    head = replace(head_of(__version__), dashboard=None)
    assert f"see {tmp_path / LOG}" in str(dashboard.problem(head, tmp_path / "token", tmp_path))
    bound = "2026-12-01\tERROR services.py:1500 -- Failed to bind to 127.0.0.1:1 because it's occupied. You can use"
    (tmp_path / LOG).write_text(f"starting\n{bound}\n")
    why = str(dashboard.problem(head, tmp_path / "token", tmp_path))
    assert why == "Ray did not start it: Failed to bind to 127.0.0.1:1 because it's occupied"
    (port,) = free_ports(1)
    silent = replace(head, dashboard=f"127.0.0.1:{port}")
    assert "nothing listens at" in str(dashboard.problem(silent, tmp_path / "token", tmp_path))


@pytest.mark.ray
@pytest.mark.fleet
def test_a_head_whose_dashboard_s_port_is_taken_while_ray_starts_is_up_and_says_so(machine: Machine) -> None:
    port, number = free_ports(2)
    with machine.start("node", "up", "--head", "--port", str(port), "--dashboard-port", str(number)) as process:
        while not list(machine.home.glob(f"fleetbench-*/*/{LOG}")):
            assert process.poll() is None
        with socket.create_server(("127.0.0.1", number)):  # Ray is being imported, which takes a second
            out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert "is up" in out
    assert "from other machines not: see the warning" in out
    assert f"its dashboard takes no jobs: Ray did not start it: Failed to bind to 127.0.0.1:{number}" in err
    assert "--dashboard-port PORT" in err
