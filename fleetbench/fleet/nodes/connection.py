"""A driver's connection to a cluster: checked first, for Ray itself waits for minutes where something is wrong."""

from __future__ import annotations

import logging
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.nodes import cluster_token
from fleetbench.fleet.nodes.deadline import deadline
from fleetbench.fleet.nodes.head import Head, reach, split_address
from fleetbench.fleet.nodes.head_watch import watched_head

NAMESPACE = "fleetbench"
AUTO = "auto"
"""The cluster that this process is in."""
ADDRESS = "RAY_ADDRESS"
DASHBOARD_PORT = 8265
STUCK_S = 30.0
"""For Ray to connect, which takes it a second: it asks this machine's raylet, which asks a head that may be gone."""
_ANEW = "start it again there (fleetbench node up --head), and then the same command"
_HANGS = "its head or this machine's node hangs or died (see whether they are up, then the same command)"


@contextmanager
def connected(address: str, token: Path | None, give_up: Callable[[str], None]) -> Iterator[Head]:
    """Connect this process to the cluster whose head is at `address`, and part from it at the end.

    Args:
        address: `HOST[:PORT]` of the head, or `auto`: the cluster that this process is in, as a Ray job is.
        token: the token's file; None for where `cluster_token.find` looks.
        give_up: ends the process with a sentence: a thread calls it where the head dies while Ray connects to it, for
            Ray would wait for minutes then. Where Ray hangs so that no thread can run, the process ends after STUCK_S.

    Raises:
        InputError: the address is none.
        UnusableEnvironmentError: it cannot be reached, or used from here; within ten seconds, with the remedy.
    """
    cluster_token.hand_to_ray(found := cluster_token.find(token))
    head = reach(_meant(address), found)
    _check_versions(head)
    _check_here(head)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with watched_head(head.address, lambda _: None, lambda why: give_up(f"{why}: {_ANEW}"), grace_s=0.0):
            _connect(head)
        _take_back(handler)
        yield head
    finally:
        _part()
        _take_back(handler)


def _meant(address: str) -> str:
    if address != AUTO:
        return address
    if own := os.environ.get(ADDRESS):
        return own
    raise UnusableEnvironmentError(f"this process is in no cluster ({ADDRESS} is not set): name one by --address")


def check_ray(head: Head) -> str | None:
    """Why this machine's Ray and Python cannot work with the head's; None where they can."""
    ours = (version("ray"), platform.python_version())
    if (head.ray, head.python) == ours:
        return None
    return (
        f"the cluster at {head.address} runs Ray {head.ray} on Python {head.python}, this machine Ray {ours[0]} on "
        f"Python {ours[1]}: they must be the same, so install the head's versions here"
    )


def _check_versions(head: Head) -> None:
    if why := check_ray(head):
        raise UnusableEnvironmentError(why)


def _check_here(head: Head) -> None:
    """A driver talks to a raylet of its own machine, by a socket."""
    host, port = split_address(head.address)
    if not head.here:
        raise UnusableEnvironmentError(
            f"this machine is no node of the cluster at {head.address}: from here, use its dashboard's address "
            f"(--address http://{host}:{DASHBOARD_PORT}), or join it (fleetbench node up --address {host}:{port})"
        )
    if not any(os.access(node.socket, os.W_OK) for node in head.here):
        raise UnusableEnvironmentError(
            f"another user started the node of the cluster at {head.address} on this machine: use the dashboard's "
            f"address (--address http://{host}:{DASHBOARD_PORT})"
        )


def _connect(head: Head) -> None:
    import ray  # noqa: PLC0415 - Ray reads its environment when it is imported
    from ray._private import worker  # noqa: PLC0415
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # noqa: PLC0415

    Config.initialize("")  # reads the environment anew, where Ray was imported before
    AuthenticationTokenLoader.instance().reset_cache()
    driver: Any = worker
    driver.print_to_stdstream = _unprinted  # or Ray tells of dead nodes on stdout, where rows are
    try:
        with deadline(STUCK_S, f"the cluster at {head.address} takes no driver within {STUCK_S:g} s: {_HANGS}"):
            ray.init(address=head.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except SystemExit as error:  # Ray's own handler of SIGTERM, which it takes while it starts
        raise KeyboardInterrupt from error
    except Exception as error:  # Ray raises bare ones when it does not connect
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnusableEnvironmentError(f"the cluster at {head.address} cannot be used from here: {line}") from error


def _unprinted(*_: object, **__: object) -> None:
    """What the cluster has to say is asked for."""


def _part() -> None:
    import ray  # noqa: PLC0415 - as above

    ray.shutdown()


def _take_back(handler: object) -> None:
    """Ray takes SIGTERM for itself when it connects, and would die by it without a word."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # type: ignore[arg-type]
