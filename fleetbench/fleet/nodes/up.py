"""`fleetbench node up`: everything that is asked before a machine becomes a node, and the becoming."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from fleetbench.engine.settings import NODE_ENV, settings_path
from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.fleet.nodes import cluster_token, dashboard
from fleetbench.fleet.nodes.connection import DASHBOARD_PORT
from fleetbench.fleet.nodes.facts import NodeFacts
from fleetbench.fleet.nodes.head import PORT, Head, left_over, probe, reach
from fleetbench.fleet.nodes.inspection import inspect
from fleetbench.fleet.nodes.joining import (
    CLIENT_PORT,
    Joining,
    check_head,
    check_visible,
    free_name,
    hardware,
    ray_command,
    with_pool,
)
from fleetbench.fleet.nodes.labels import HOST
from fleetbench.fleet.nodes.processes import LocalNode, local_nodes
from fleetbench.fleet.nodes.start import check_port, free_folder, free_port, place, ray_program, sole_joining, start


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What `node up` was given; address: of the head, None for `--head`."""

    address: str | None
    port: int = PORT
    node_ip: str | None = None
    pool: str | None = None
    settings: Path | None = None
    token: Path | None = None
    simulate: str | None = None
    dashboard_host: str = "127.0.0.1"
    dashboard_port: int | None = None
    """None for the default, or the next that is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """A node that is up.

    token: its file, None where the environment has it; made: whether just now; no_jobs: why a head's dashboard takes
    none, which it should.
    """

    joining: Joining
    node: LocalNode
    head: Head
    token: Path | None
    made: bool
    no_jobs: str | None


def bring_up(wanted: Wanted, watch: Callable[[str], None]) -> Up:
    """Make this machine a node.

    Raises:
        InputError: something that was given is wrong.
        UnusableEnvironmentError: the machine, the token, the head or Ray does not allow it; with the remedy.
    """
    facts = _look(wanted)
    tag, gpus = hardware(facts, wanted.simulate, head=wanted.address is None)
    base = place()
    with sole_joining(base):
        local = local_nodes()
        _check_double(tag, local, simulated=wanted.simulate is not None)
        if wanted.address is None:
            check_port(wanted.port)
        wanted = _with_dashboard(wanted)
        own = wanted.address is None
        token, made = (cluster_token.find_or_make if own else _found_token)(wanted.token)
        cluster_token.hand_to_ray(token)
        names = {node.name for node in local}
        if wanted.address is not None:
            names |= taken_names(wanted.address, token)
        joining = _joining(
            wanted, facts, (tag, gpus), name=_name(frozenset(names)), folder=free_folder(base), alone=not local
        )
        watch(f"starting Ray as node {joining.name}")
        try:
            node, head = start(joining, token)
        except UnusableEnvironmentError:
            if made and token is not None:
                token.unlink(missing_ok=True)
            raise
    no_jobs = dashboard.problem(head, token, joining.folder) if wanted.address is None else None
    return Up(joining=joining, node=node, head=head, token=token, made=made, no_jobs=no_jobs)


def would_run(wanted: Wanted) -> tuple[Joining, list[str]]:
    """The node that this machine would be, and the command; nothing is started, made or asked."""
    facts = _look(wanted)
    tag, gpus = hardware(facts, wanted.simulate, head=wanted.address is None)
    local = local_nodes()
    name = _name(frozenset(node.name for node in local))
    wanted = _with_dashboard(wanted)
    joining = _joining(wanted, facts, (tag, gpus), name=name, folder=place() / "N", alone=not local)
    return joining, ray_command(joining, ray_program())


def _look(wanted: Wanted) -> NodeFacts:
    """This machine under the settings that its workers will have."""
    cluster_token.check_tls(os.environ)
    if wanted.settings is not None:
        if not wanted.settings.is_file():
            raise InputError((f"--settings {wanted.settings}: no such file (see fleetbench node schema)",))
        os.environ[NODE_ENV] = str(wanted.settings.absolute())
    elif (found := settings_path()).is_file():
        os.environ[NODE_ENV] = str(found.absolute())
    facts = with_pool(inspect(), wanted.pool)
    check_visible(facts, os.environ)
    return facts


def _check_double(tag: str | None, local: list[LocalNode], *, simulated: bool) -> None:
    """GPUs that two nodes have would be given away twice."""
    real = [node for node in local if node.tag and not node.tag.startswith("sim-")]
    if tag is not None and not simulated and real:
        raise UnusableEnvironmentError(
            f"this machine is node {real[0].name} already, with all of its GPUs: fleetbench node down first"
        )


def taken_names(address: str, token: Path | None) -> frozenset[str]:
    """Names of the head's nodes, but for one that this machine had before it started again.

    Raises:
        UnusableEnvironmentError: the head is of other versions than this machine, or asks for no token.
    """
    head = reach(address, token)
    check_head(head)
    bare = {key: value for key, value in os.environ.items() if key not in (cluster_token.PATH, cluster_token.VALUE)}
    unasked = probe(head.address, {**bare, cluster_token.MODE: "disabled"})
    if unasked is not None and "error" not in unasked:
        raise UnusableEnvironmentError(
            f"the cluster at {head.address} asks for no token, so whoever reaches it may run code on its nodes: "
            "start its head by fleetbench node up --head, or with RAY_AUTH_MODE=token"
        )
    return frozenset(name for node in head.nodes if (name := node.labels.get(HOST)) and not left_over(node))


def _name(taken: frozenset[str]) -> str:
    return free_name(socket.gethostname(), taken)


def _joining(
    wanted: Wanted, facts: NodeFacts, tagged: tuple[str | None, int], *, name: str, folder: Path, alone: bool
) -> Joining:
    return Joining(
        facts=facts,
        tag=tagged[0],
        gpus=tagged[1],
        name=name,
        folder=folder,
        address=wanted.address,
        port=wanted.port,
        node_ip=wanted.node_ip,
        dashboard_host=wanted.dashboard_host,
        dashboard_port=wanted.dashboard_port or DASHBOARD_PORT,
        client_port=None if alone or find_spec("grpc") is None else free_port(CLIENT_PORT),
        alone=alone,
    )


def _found_token(file: Path | None) -> tuple[Path | None, bool]:
    return cluster_token.find(file), False


def _with_dashboard(wanted: Wanted) -> Wanted:
    """With the port that a head's dashboard gets."""
    if wanted.address is not None:
        return wanted
    port = dashboard.choose_port(wanted.dashboard_port, wanted.dashboard_host, wanted.port)
    return replace(wanted, dashboard_port=port)
