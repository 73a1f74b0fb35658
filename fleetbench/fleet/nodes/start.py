"""Starts Ray as a node, and keeps it in the foreground where that is wanted."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fleetbench.engine.guard import alive
from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.nodes import labels
from fleetbench.fleet.nodes.head import Head, LivingNode, reach, split_address
from fleetbench.fleet.nodes.joining import Joining, last_words, ray_command, ray_environment
from fleetbench.fleet.nodes.processes import NODE_FILE, VITAL, LocalNode, end, forget, local_nodes, vital

START_S = 90
"""For `ray start`, on a machine that is busy."""
LOOK_S = 1.0
ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
PORTS = 50
LOG = "ray-start.log"
BOOTSTRAP = "ray_current_cluster"
"""Where `ray start` leaves the head's address, in the node's folder."""
_PLACE_ROOM = 36
"""Ray's socket paths add about 67 characters to a node's folder, and the kernel allows 107."""


def place(environ: os._Environ[str] | dict[str, str] = os.environ) -> Path:
    """This user's private folder, with one for each node: in `$RAY_TMPDIR`, else /tmp, for its path must be short."""
    base = Path(environ.get("RAY_TMPDIR") or "/tmp")  # noqa: S108 - the folder is made private
    found = base.absolute() / f"fleetbench-{os.geteuid()}"
    if len(str(found)) > _PLACE_ROOM:
        raise UnusableEnvironmentError(f"{found} is too long a path for Ray's sockets: set RAY_TMPDIR to a shorter one")
    try:
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
        seen = found.lstat()
    except OSError as error:
        raise UnusableEnvironmentError(f"{found} cannot be made: {error.strerror} (or set RAY_TMPDIR)") from error
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
        raise UnusableEnvironmentError(f"{found} is not a private folder of this user: remove it, or set RAY_TMPDIR")
    return found


@contextmanager
def sole_joining(base: Path) -> Iterator[None]:
    """One `node up` at a time on this machine: each looks for a free name and folder."""
    with (base / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def free_folder(base: Path) -> Path:
    """A folder that no living node has; what a dead one left there is removed."""
    taken = {node.folder for node in local_nodes()}
    folder = next(one for number in range(1, len(taken) + 2) if (one := base / str(number)) not in taken)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def check_port(port: int, host: str = "", *, option: str = "--port") -> None:
    """Ray itself says so after a minute, or of its dashboard in a log; host: where it is to listen."""
    if why := _port_problem(port, host):
        raise UnusableEnvironmentError(
            f"port {port} cannot be had on this machine: {why} (is a head up already? see fleetbench nodes; or take "
            f"another by {option})"
        )


def check_host(host: str, option: str) -> None:
    """Whether something can listen there at all."""
    if why := _port_problem(0, host):
        raise UnusableEnvironmentError(
            f"{option} {host} is no address of this machine: {why} (give one of its IPs, or 0.0.0.0 for all of them)"
        )


def free_port(first: int, host: str = "") -> int:
    """That port, or the next that is free: a second head on a machine would share it, or not start."""
    ports = range(first, min(first + PORTS, 1 << 16))
    found = next((port for port in ports if _port_problem(port, host) is None), None)
    if found is None:
        raise UnusableEnvironmentError(
            f"ports {ports[0]} to {ports[-1]} are all taken on this machine: end what listens there"
        )
    return found


def _port_problem(port: int, host: str) -> str | None:
    """Why nobody could listen there now; an empty host means all of this machine's addresses."""
    try:
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0] if host else (family, 0, 0, "", ("", port))
        with socket.socket(where[0], socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where[4])
    except (OSError, UnicodeError) as error:  # a name that is too long for a host's
        return getattr(error, "strerror", None) or str(error)
    return None


def ray_program() -> Path:
    """The `ray` beside this Python."""
    found = Path(sys.executable).parent / "ray"
    if not found.exists():
        raise UnusableEnvironmentError(f"there is no {found}: install Ray into the environment of this fleetbench")
    return found


def start(joining: Joining, token: Path | None) -> tuple[LocalNode, Head]:
    """Start Ray as that node; where that fails, what was started is ended, and its logs stay until the next start.

    Returns:
        The node, and its head, asked once it is up.
    """
    node = LocalNode(name=joining.name, folder=joining.folder, address=joining.address, tag=joining.tag)
    log = joining.folder / LOG
    try:
        _run(ray_command(joining, ray_program()), ray_environment(joining), log)
        bootstrap = (joining.folder / BOOTSTRAP).read_text().strip()
        head = reach(joining.address or bootstrap, token, patience_s=START_S)
        own = _own(head, joining)
        first = next((one for one in head.nodes if one.head), own)
        _, port = split_address(head.address)
        address = f"{first.address}:{port}"
        node = replace(node, address=address, head=joining.address is None)
        said = {"address": address, "tag": node.tag, "head": node.head}
        (joining.folder / NODE_FILE).write_text(json.dumps(said))
    except BaseException:
        end(node)
        raise
    return node, head


def _own(head: Head, joining: Joining) -> LivingNode:
    found = next((one for one in head.here if one.labels.get(labels.HOST) == joining.name), None)
    if found is None:
        raise UnusableEnvironmentError(f"Ray started, and its head does not know this node: see {joining.folder / LOG}")
    return found


def _run(command: list[str], environment: dict[str, str], log: Path) -> None:
    """Its output goes to a file: Ray's processes keep it open, and a pipe would not end."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=log.parent,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=START_S)
        except subprocess.TimeoutExpired as error:
            raise UnusableEnvironmentError(f"Ray did not start within {START_S} s on this machine") from error
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code:
        said = last_words(log.read_text(errors="replace"))
        raise UnusableEnvironmentError(f"Ray did not start on this machine: {said}")


@contextmanager
def signals_held() -> Iterator[None]:
    """Keep the signals that end a process until `stay` takes them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def stay(node: LocalNode) -> None:
    """Wait until SIGTERM, SIGINT or SIGHUP, which are held, then end the node.

    Raises:
        UnusableEnvironmentError: Ray died before.
    """
    watched = vital(node)
    complete = len(watched) == (len(VITAL) if node.head else 1)
    while complete and all(alive(*process) for process in watched):
        if signal.sigtimedwait(ENDING, LOOK_S) is not None:
            end(node)
            forget(node)
            return
    end(node, ask=False)  # the others wait for the dead
    raise UnusableEnvironmentError(
        f"Ray died on this machine, and node {node.name} with it: start it again; its logs are in {node.folder}"
    )
