"""The dashboard of a head that is started here: its port before, and whether it answers afterwards."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fleetbench.errors import FleetbenchError, InputError
from fleetbench.fleet.jobs.api import reach_jobs
from fleetbench.fleet.nodes.connection import DASHBOARD_PORT
from fleetbench.fleet.nodes.head import Head
from fleetbench.fleet.nodes.start import LOG, check_host, check_port, free_port

OPTION = "--dashboard-port"
_ERROR = "\tERROR "


def choose_port(wanted: int | None, host: str, head_port: int) -> int:
    """The port that was asked for, else the default or the next one that is free; nobody listens on it now.

    Raises:
        InputError: it is the head's own.
        UnusableEnvironmentError: it is taken, or the host is none of this machine.
    """
    check_host(host, "--dashboard-host")
    if wanted is None:
        return free_port(DASHBOARD_PORT + (head_port == DASHBOARD_PORT), host)
    if wanted == head_port:
        raise InputError((f"{OPTION} {wanted}: is the port of the head itself (take another)",))
    check_port(wanted, host, option=OPTION)
    return wanted


def installed() -> bool:
    """Whether Ray here has what its dashboard needs."""
    return find_spec("aiohttp") is not None


def problem(head: Head, token: Path | None, folder: Path) -> str | None:
    """Why a dashboard that should be there takes no jobs; None where it answers, or Ray is installed without one.

    folder: of the head's node.
    """
    if not installed():
        return None
    if head.dashboard is None:
        return f"Ray did not start it: {_said(folder / LOG)}"
    try:
        reach_jobs(f"http://{head.dashboard}", token)
    except FleetbenchError as error:
        return str(error)
    return None


def _said(log: Path) -> str:
    """What `ray start` said of it, without its advice for other ways to start Ray."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [line.partition(" -- ")[2].partition(". ")[0] for line in lines if _ERROR in line]
    return errors[0][:200] if errors else f"see {log}"
