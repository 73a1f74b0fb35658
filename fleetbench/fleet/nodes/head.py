"""Reaching a head: whether it can be, within seconds, or why not in a sentence with the remedy."""

from __future__ import annotations

import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.fleet.nodes.cluster_token import TLS, uses_tls

PORT = 6379
CONNECT_S = 2.0
PATIENCE_S = 9.0
"""For a connection, its greeting and the answer; the rest of ten seconds is for starting and ending a process."""
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""A client's preface with its empty settings (RFC 9113, 3.4); a server answers with its own settings first."""
FRAME_BYTES, FRAME_TYPE, SETTINGS = 9, 3, 4
"""Of a frame's header, and of the byte in it that says what it is."""
DEFAULT = f" (its port is {PORT}, unless it was started with --port)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LivingNode:
    """A living node as its head knows it; here: whether its raylet runs on this machine; port, socket: that raylet's.

    A head goes on to take one for living that died without a word, for up to a minute.
    """

    node_id: str
    name: str
    address: str
    port: int
    labels: dict[str, str]
    head: bool
    here: bool
    socket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A head that answered: the versions of its Ray and Python, and its nodes.

    dashboard: `HOST:PORT` where its job server listens, None where its Ray was installed without one.
    """

    address: str
    ray: str | None
    python: str | None
    dashboard: str | None
    nodes: tuple[LivingNode, ...]

    @property
    def here(self) -> tuple[LivingNode, ...]:
        return tuple(node for node in self.nodes if node.here)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `HOST[:PORT]`.

    Raises:
        InputError: it is none.
    """
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)(?::(\d{1,5}))?", address)
    if found and 0 < (port := int(found[2] or PORT)) < 1 << 16:
        return found[1].strip("[]"), port
    if "://" in address:
        raise InputError((f"address {address!r}: this needs the head itself (write HOST:PORT, as in head:{PORT})",))
    raise InputError((f"address {address!r} is none of a head (write HOST:PORT, as in head:{PORT})",))


def reach(address: str, token: Path | None, *, patience_s: float = PATIENCE_S) -> Head:
    """Ask the head at `HOST[:PORT]` who it is; ten seconds at most, unless there is more patience.

    Raises:
        InputError: the address is none.
        UnusableEnvironmentError: no such host, nothing there, no answer, no Ray, another token.
    """
    host, port = split_address(address)
    until = time.monotonic() + patience_s
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    _knock(host, port, at)
    found = probe(at, os.environ, max(until - time.monotonic(), 1.0))
    if found is None:
        raise UnusableEnvironmentError(
            f"what listens at {at} does not say within {patience_s:g} s that it is a Ray head: it or this machine is "
            f"too busy, or it is none{DEFAULT}"
        )
    if found.get("error") == "token":
        whose = f"the one in {token}" if token else "the one in RAY_AUTH_TOKEN"
        raise UnusableEnvironmentError(
            f"the cluster at {at} has another token than {whose}: copy the head's token file to this machine"
        )
    if "error" in found:
        raise UnusableEnvironmentError(f"what listens at {at} is no Ray head, though it speaks Ray's protocol{DEFAULT}")
    nodes = tuple(LivingNode(**node) for node in found["nodes"])
    return Head(address=at, ray=found["ray"], python=found["python"], dashboard=found["dashboard"], nodes=nodes)


def probe(address: str, environ: Mapping[str, str], patience_s: float = PATIENCE_S) -> dict[str, Any] | None:
    """What `gcs_probe` found there; None where no head answered in time."""
    command = [sys.executable, "-P", "-m", "fleetbench.fleet.nodes.gcs_probe", address]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=patience_s,
            env=dict(environ),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return None
    return found


def left_over(node: LivingNode) -> bool:
    """Whether it was this machine's and is no more: its address is ours, and nothing listens where its raylet did."""
    family = socket.AF_INET6 if ":" in node.address else socket.AF_INET
    try:
        with socket.socket(family) as sock:
            sock.bind((node.address, 0))
        with socket.create_connection((node.address, node.port), timeout=CONNECT_S):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:  # another machine's, or one that cannot be told of
        return False


def _knock(host: str, port: int, at: str) -> None:
    """Open a connection and see whether gRPC answers; a resolver that hangs is not waited for."""
    said: queue.SimpleQueue[bool | OSError | UnicodeError] = queue.SimpleQueue()

    def knock() -> None:
        try:
            said.put(_greeted(host, port))
        except (OSError, UnicodeError) as error:  # a name that is too long for a host's
            said.put(error)

    threading.Thread(target=knock, daemon=True).start()
    try:
        answer = said.get(timeout=2 * CONNECT_S)
    except queue.Empty:
        answer = TimeoutError()
    if isinstance(answer, (OSError, UnicodeError)):
        raise _unreachable(answer, host, port, at) from answer
    if not answer:
        raise UnusableEnvironmentError(
            f"what listens at {at} is no Ray head{DEFAULT}, or hangs, or wants TLS ({TLS} is not set here)"
        )


def _greeted(host: str, port: int) -> bool:
    """Whether a server of HTTP/2 is there, as gRPC is, which Ray's client would wait for; TLS is left to that."""
    with socket.create_connection((host, port), timeout=CONNECT_S) as sock:
        if uses_tls(os.environ):
            return True
        try:
            sock.sendall(GREETING)
            answer = sock.recv(FRAME_BYTES)
        except OSError:  # silent, or gone again
            return False
    return len(answer) == FRAME_BYTES and answer[FRAME_TYPE] == SETTINGS


def _unreachable(error: OSError | UnicodeError, host: str, port: int, at: str) -> UnusableEnvironmentError:
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return UnusableEnvironmentError(f"there is no host {host} (see --address, or give its IP)")
    if isinstance(error, ConnectionRefusedError):
        return UnusableEnvironmentError(
            f"nothing listens at {at}: start the head there (fleetbench node up --head), or see --address"
        )
    if isinstance(error, TimeoutError):
        return UnusableEnvironmentError(
            f"{at} does not answer within {CONNECT_S:g} s: see whether it is up, and whether a firewall keeps "
            f"port {port}"
        )
    return UnusableEnvironmentError(f"{at} cannot be reached: {error.strerror or error} (see --address)")
