"""A Ray of our own on this machine: loopback only, token authentication, no dashboard, gone afterwards."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetbench.engine.guard import descendants, send
from fleetbench.engine.lease import LEASE_ENV, kill_lease, new_lease, sweep
from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.nodes.evenly import EVENLY
from fleetbench.fleet.nodes.labels import GPU, NODE
from fleetbench.plan.events import FleetSeen, Seen
from fleetbench.plan.nodes import Node

LOCAL = "local"
OBJECT_STORE_BYTES = 100 * 1024 * 1024
VITAL = frozenset({"gcs_server", "raylet"})
_PREFIX = "fb-ray-"
_SOCKET_ROOM = 40
"""Ray's socket paths add about 60 characters to the folder, and the kernel allows 107."""


@contextmanager
def embedded_ray() -> Iterator[None]:
    """Start Ray, and end it whatever happens inside; Ray must not have been imported before, see `_environment`."""
    folder = _folder()
    lease = new_lease("ray")
    handler = signal.getsignal(signal.SIGTERM)
    started: list[tuple[int, int]] = []
    try:
        _environment(folder, lease)
        _start(folder)
        _take_back(handler)
        started = descendants(os.getpid())
        yield
    finally:
        started += descendants(os.getpid())
        _shut_down()
        _take_back(handler)
        kill_lease(lease)
        for pid, ticks in started:  # Ray's agents hide their environment, and outlive a raylet that was killed
            send(pid, ticks, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True)
class EmbeddedFleet:
    """This machine alone, as the one node of the Ray that was started here."""

    _told: bool = False

    def look(self) -> FleetSeen | None:
        if self._told:
            return None
        self._told = True
        import ray  # noqa: PLC0415 - Ray reads its environment when it is imported

        node_id: str = ray.get_runtime_context().get_node_id()
        node = Node(node_id=node_id, name=socket.gethostname(), hardware=LOCAL, gpus=0)
        return FleetSeen(nodes=(Seen(node=node),))

    def death(self) -> str | None:
        """Where a process that Ray cannot do without is gone. Ray itself notices after a minute, or never."""
        from ray._private import worker  # noqa: PLC0415 - as above; Ray has no public word for it

        node = worker._global_node  # noqa: SLF001
        dead: list[str] = [name for name, _ in node.dead_processes() if name in VITAL] if node else []
        return f"Ray died on this machine ({', '.join(dead)})" if dead else None


def _shut_down() -> None:
    import ray  # noqa: PLC0415 - Ray reads its environment when it is imported

    ray.shutdown()


def _take_back(handler: Any) -> None:
    """Ray takes SIGTERM for itself when it starts, and would die by it without a word."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _folder() -> Path:
    """A private folder named after this process; those of dead processes are removed."""
    base = Path(tempfile.gettempdir())
    if len(str(base)) > _SOCKET_ROOM:
        base = Path("/tmp")  # noqa: S108 - the socket path must be short; the folder itself is made private
    for left in base.glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).split("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    try:
        return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))
    except OSError as error:
        raise UnusableEnvironmentError(f"Ray needs a temporary folder in {base}: {error.strerror}") from error


def _environment(folder: Path, lease: str) -> None:
    """Ray reads whether and how it authenticates when it is imported, and never again.

    Ray's processes carry a lease, so that the next start clears what a killed driver's Ray left. Ray binds to
    loopback only where it takes itself for a lone machine, which it decides by a variable named for other systems.
    """
    sweep()
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ.update(
        **{LEASE_ENV: lease},
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(token),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        **EVENLY,
    )
    os.environ.pop("RAY_ADDRESS", None)


def _spare_helpers() -> None:
    """No autoscaler, dashboard's server or collector of logs, which `ray.init` starts whatever it is told.

    Nobody asks them of one node, and they would use its processors while it measures: a third of Ray's CPU at a start.
    """
    from ray._private.node import Node  # noqa: PLC0415 - see above

    for name in ("start_api_server", "start_monitor", "start_log_monitor"):
        setattr(Node, name, lambda *_, **__: None)


def _start(folder: Path) -> None:
    import ray  # noqa: PLC0415 - see above

    _spare_helpers()
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder),
            resources={NODE: 1},
            labels={GPU: LOCAL},
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except SystemExit as error:  # Ray's own handler of SIGTERM, which it takes while it starts
        raise KeyboardInterrupt from error
    except Exception as error:  # Ray raises bare ones when it does not come up
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnusableEnvironmentError(f"Ray did not start on this machine: {line}") from error
