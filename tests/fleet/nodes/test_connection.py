"""Connecting to a cluster: what is wrong is said within seconds, in a sentence with its remedy."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.fleet.nodes import connection
from fleetbench.fleet.nodes.connection import check_ray, connected
from fleetbench.fleet.nodes.head import Head, LivingNode, reach, split_address
from tests.fleet.cluster import FakeFleet, fleet

CONNECT = """
import sys
from pathlib import Path
from fleetbench.errors import FleetbenchError
from fleetbench.fleet.nodes.connection import connected
try:
    with connected(sys.argv[1], Path(sys.argv[2]) if sys.argv[2:] else None, print):
        import ray
        print("nodes", len(ray.nodes()))
except FleetbenchError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeFleet]:
    with fleet() as up:
        yield up


def connect(address: str, token: Path | None, **environment: str) -> str:
    """What a driver of its own says; Ray keeps the token that a process first read."""
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, address, *([str(token)] if token else [])],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip() or done.stderr


@pytest.fixture
def own_token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    return path


@pytest.mark.ray
def test_the_right_token_connects_and_leaves_sigterm_as_it_was(cluster: FakeFleet) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with connected(cluster.address, cluster.token, pytest.fail) as head:
        assert [node.head for node in head.nodes] == [True]
        assert signal.getsignal(signal.SIGTERM) == handler
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.ray
def test_a_job_is_connected_to_the_cluster_that_it_runs_in(cluster: FakeFleet) -> None:
    environment = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_TOKEN_PATH": str(cluster.token)}
    assert connect("auto", None, **environment) == "nodes 1"
    pod = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_TOKEN": cluster.token.read_text()}
    assert connect("auto", None, **pod) == "nodes 1"


DYING = """
import sys
from pathlib import Path
from fleetbench.cli.main import give_up
from fleetbench.fleet.nodes import connection
checked = connection._check_here
def check(head):
    checked(head)
    print("about to connect", flush=True)
    sys.stdin.readline()
connection._check_here = check
connection.STUCK_S = 5.0
with connection.connected(sys.argv[1], Path(sys.argv[2]), give_up):
    print("connected")
"""


@pytest.mark.ray
@pytest.mark.parametrize(
    ("kind", "number", "said"),
    [
        ("gcs_server", signal.SIGKILL, "is gone: start it again there"),
        pytest.param(
            "raylet",
            signal.SIGSTOP,
            "takes no driver within 5 s: its head or this machine's node hangs",
            marks=pytest.mark.fleet,
        ),
    ],
)
def test_a_cluster_that_dies_or_hangs_while_a_driver_connects_ends_it_with_a_sentence(
    kind: str, number: signal.Signals, said: str
) -> None:
    """Ray itself waits for a minute or more, says a line of its own and ends the process with 1."""
    with fleet() as up:
        command = [sys.executable, "-c", DYING, up.address, str(up.token)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as driver:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "about to connect\n"
            up.signal("head", number, kind)
            out, err = driver.communicate("go on\n", timeout=60)
    assert driver.returncode == 4, err
    assert "error: the cluster" in err
    assert said in err
    assert out == ""


@pytest.mark.ray
def test_another_token_is_refused_and_neither_token_is_told(cluster: FakeFleet, own_token: Path) -> None:
    said = connect(cluster.address, own_token)
    assert "has another token than" in said
    assert "copy the head's token file" in said
    assert own_token.read_text() not in said
    assert cluster.token.read_text() not in said


@pytest.mark.ray
def test_a_port_of_ray_that_is_not_the_head_s_is_told_from_one(cluster: FakeFleet) -> None:
    raylet = cluster.pids("head")[0][0]
    listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    port = next(line.split()[3].rpartition(":")[2] for line in listening.splitlines() if f"pid={raylet}," in line)
    with pytest.raises(UnusableEnvironmentError, match="is no Ray head"):
        reach(f"127.0.0.1:{port}", cluster.token)


@pytest.mark.ray
def test_a_listener_that_is_silent_is_told_without_ray_s_minute(own_token: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert "is no Ray head (its port is 6379" in connect(f"127.0.0.1:{port}", own_token)


def test_a_server_of_another_kind_is_no_head(own_token: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=_answer_with_http, args=(listener,), daemon=True)
        answering.start()
        assert "is no Ray head" in connect(f"127.0.0.1:{listener.getsockname()[1]}", own_token)


def _answer_with_http(listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            client.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


def test_what_cannot_be_reached_is_told_apart(own_token: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert f"nothing listens at 127.0.0.1:{port}: start the head there" in connect(f"127.0.0.1:{port}", own_token)
    assert "there is no host nobody.invalid" in connect("nobody.invalid:6379", own_token)
    assert "there is no host aaa" in connect(f"{'a' * 300}.b:1", own_token)
    assert "is in no cluster" in connect("auto", own_token)


def test_a_missing_token_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    said = connect("nobody.invalid", None, RAY_AUTH_TOKEN_PATH=str(tmp_path / "absent"))
    assert "there is no cluster token at" in said


def test_a_host_whose_name_takes_forever_is_not_waited_for(own_token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def never(*_: object, **__: object) -> None:
        over.wait()
        raise OSError

    monkeypatch.setattr("fleetbench.fleet.nodes.head.CONNECT_S", 0.1)
    monkeypatch.setattr(socket, "create_connection", never)
    with pytest.raises(UnusableEnvironmentError, match="does not answer within"):
        reach("head:6379", own_token)
    over.set()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("head", ("head", 6379)),
        ("10.0.0.1:7000", ("10.0.0.1", 7000)),
        ("[fe80::1]:7000", ("fe80::1", 7000)),
        ("a.b-c.example", ("a.b-c.example", 6379)),
    ],
)
def test_addresses_are_read(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


@pytest.mark.parametrize(
    "text", ["", ":1", "head:", "head:0", "head:65536", "head:x", "a b:1", "fe80::1", "http://h:8265"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="HOST:PORT"):
        split_address(text)


def head_with(**node: object) -> Head:
    one = LivingNode(
        node_id="a", name="n", address="10.0.0.1", port=1, labels={}, head=True, here=True, socket=os.devnull
    )
    return Head(
        address="h:6379",
        ray="2.60.0",
        python="3.11.7",
        dashboard=None,
        nodes=(replace(one, **node),),  # type: ignore[arg-type]
    )


def test_a_machine_that_is_no_node_is_sent_to_the_dashboard_s_address() -> None:
    with pytest.raises(UnusableEnvironmentError, match="http://h:8265") as caught:
        connection._check_here(head_with(here=False))
    assert "fleetbench node up --address h:6379" in str(caught.value)


def test_a_node_of_another_user_is_sent_to_the_dashboard_s_address(tmp_path: Path) -> None:
    with pytest.raises(UnusableEnvironmentError, match="another user"):
        connection._check_here(head_with(socket=str(tmp_path / "unseen")))


def test_other_versions_are_both_named() -> None:
    said = check_ray(replace(head_with(), ray="2.59.1", python="3.12.1"))
    assert said is not None
    assert "Ray 2.59.1 on Python 3.12.1" in said
    assert "install the head's versions here" in said
