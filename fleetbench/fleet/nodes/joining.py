"""What a machine joins a fleet as: its tag, its labels and the command that starts Ray. Decides; starts nothing."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path

from fleetbench import __version__
from fleetbench.catalog import lookup
from fleetbench.engine.guard import GUARD_ENV, LEASE_ENV
from fleetbench.engine.settings import NODE_ENV
from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.fleet.jobs.marks import PYTHON
from fleetbench.fleet.nodes import labels
from fleetbench.fleet.nodes.connection import ADDRESS, DASHBOARD_PORT, check_ray
from fleetbench.fleet.nodes.evenly import EVENLY
from fleetbench.fleet.nodes.facts import NodeFacts
from fleetbench.fleet.nodes.head import PORT, Head
from fleetbench.fleet.nodes.processes import MARK, mark

OBJECT_STORE_BYTES = 256 * 1024 * 1024
"""Of a node: files of a launch cross it where no folder is shared, and nothing larger does."""
SIMULATED_STORE_BYTES = 100 * 1024 * 1024
CLIENT_PORT = 20001
"""From here on Ray's own client server gets its port on a machine with several nodes, outside the workers' range."""
MAX_GPUS = 1024
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
UNSET = (LEASE_ENV, GUARD_ENV, ADDRESS, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", *VISIBLE)
"""Of an engine or a Ray that this was started in, or what hides GPUs from Ray."""
LEFT_TO_LAUNCH = ("CUDA", "HIP", "ROCR")
"""Ray sets no variable of visible devices: it would set that of NVIDIA on every simulated node; a launch sets them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """A node before it is one.

    tag: its hardware kind, None for a head that is not measured on; gpus: that Ray counts; address: of its head, None
    for a head; port: of this head; client_port: of its Ray client server, None for Ray's own choice; alone: whether no
    other node is on this machine.
    """

    facts: NodeFacts
    tag: str | None
    gpus: int
    name: str
    folder: Path
    address: str | None
    port: int = PORT
    node_ip: str | None = None
    dashboard_host: str = "127.0.0.1"
    dashboard_port: int = DASHBOARD_PORT
    client_port: int | None = None
    alone: bool = True

    @property
    def simulated(self) -> bool:
        return self.tag is not None and self.tag.startswith(lookup.SIMULATED)

    @property
    def labels(self) -> dict[str, str]:
        return labels.labels_of(self.facts, tag=self.tag, gpus=self.gpus, name=self.name)


def hardware(facts: NodeFacts, simulate: str | None, *, head: bool) -> tuple[str | None, int]:
    """The node's tag and its GPUs.

    Args:
        facts: what the machine has.
        simulate: `KIND[:GPUS]`, to play GPUs on its CPU.
        head: a head may be without GPUs, and is not measured on then.

    Raises:
        InputError: no such kind to play.
        UnusableEnvironmentError: it has no GPU, several kinds, one that the catalog does not know, or no engine.
    """
    if facts.problem:
        raise UnusableEnvironmentError(f"{facts.problem} (put that right, see fleetbench node check)")
    tag, gpus = _played(simulate) if simulate is not None else _found(facts, head=head)
    if tag is not None and labels.label_value(tag) != tag:
        raise UnusableEnvironmentError(
            f"the catalog's kind {tag} cannot be a label (rename its file: letters, digits, '-', '_' and '.')"
        )
    if tag is not None and not facts.engines:
        why = "; ".join(f"{name}: {reason}" for name, reason in facts.unusable.items())
        raise UnusableEnvironmentError(f"no engine can be started here: {why} (see fleetbench node check)")
    return tag, gpus


def _played(simulate: str) -> tuple[str, int]:
    kind, _, counted = simulate.partition(":")
    if not kind:
        raise InputError((f"--simulate {simulate!r}: names no kind of GPU (write KIND[:GPUS], as in h100:8)",))
    info = lookup.gpu_info(kind.removeprefix(lookup.SIMULATED))
    if info is None:
        near = lookup.nearest(kind, lookup.gpu_names())
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(lookup.gpu_names())}"
        raise InputError((f"--simulate {simulate}: the catalog has no {kind} ({hint})",))
    if counted and not (counted.isdecimal() and 0 < int(counted) <= MAX_GPUS):
        raise InputError((f"--simulate {simulate}: {counted} is no number of GPUs (write {kind}:8)",))
    return f"{lookup.SIMULATED}{info.name}", int(counted) if counted else info.gpus_per_node


def _found(facts: NodeFacts, *, head: bool) -> tuple[str | None, int]:
    unknown = sorted({device.name for device in facts.devices if device.kind is None})
    if unknown:
        raise UnusableEnvironmentError(
            f"the catalog has no kind for {', '.join(unknown)}: add a file for it under gpus/ in a folder of your own, "
            f"and name that in {lookup.OVERLAY}"
        )
    kinds = sorted({device.kind for device in facts.devices if device.kind})
    if len(kinds) > 1:
        raise UnusableEnvironmentError(
            f"this machine has GPUs of several kinds ({', '.join(kinds)}), and a node has one tag: hide the others "
            "from the driver, or leave the machine out"
        )
    if not kinds and not head:
        raise UnusableEnvironmentError(
            "this machine has no GPU that NVML or AMD SMI finds: see fleetbench doctor; "
            "for a trial fleet, play one: --simulate KIND[:GPUS], as in --simulate h100:8"
        )
    return (kinds[0], len(facts.devices)) if kinds else (None, 0)


def check_visible(facts: NodeFacts, environ: Mapping[str, str]) -> None:
    """A variable that hides some GPUs makes the others impossible to count: a node has all of its machine."""
    for name in VISIBLE:
        shown = environ.get(name)
        if facts.devices and shown is not None and len([one for one in shown.split(",") if one]) < len(facts.devices):
            raise UnusableEnvironmentError(
                f"{name}={shown} hides some of this machine's {len(facts.devices)} GPUs: unset it, for launches get "
                "theirs by Ray's counting"
            )


def check_head(head: Head) -> None:
    """A node of another version would measure something else, or nothing.

    Raises:
        UnusableEnvironmentError: the head's Ray, Python or fleetbench is another.
    """
    if why := check_ray(head):
        raise UnusableEnvironmentError(why)
    first = next((node for node in head.nodes if node.head), None)
    theirs = first.labels.get(labels.VERSION) if first else None
    if theirs is not None and theirs != labels.label_value(__version__):
        raise UnusableEnvironmentError(
            f"the head at {head.address} has fleetbench {theirs}, this machine {__version__}: install the same on both"
        )


def free_name(host: str, taken: frozenset[str]) -> str:
    """The host's name, or it with the first number that is free."""
    name = labels.label_value(host) or "node"
    names = [name, *(f"{name[:55]}-{number}" for number in range(2, len(taken) + 3))]
    return next(one for one in names if one not in taken)


def with_pool(facts: NodeFacts, pool: str | None) -> NodeFacts:
    """The facts with the pool that was given, which must be fit for a label."""
    if pool is None:
        return facts
    if not pool or labels.label_value(pool) != pool:
        raise InputError((f"--pool {pool!r}: letters, digits, '-', '_' and '.' only, the ends a letter or digit",))
    return replace(facts, pool=pool)


def ray_command(joining: Joining, ray: Path) -> list[str]:
    """The `ray start` of the node; agents take free ports, for several nodes may be on a machine."""
    one = joining
    where = ["--head", f"--port={one.port}"] if one.address is None else [f"--address={one.address}"]
    return [
        str(ray),
        "start",
        *where,
        *([f"--node-ip-address={one.node_ip}"] if one.node_ip else []),
        f"--node-name={one.name}",
        f"--labels={','.join(f'{key}={value}' for key, value in one.labels.items())}",
        f"--resources={json.dumps({labels.NODE: 1} if one.tag else {})}",
        f"--num-gpus={one.gpus}",
        f"--object-store-memory={SIMULATED_STORE_BYTES if one.simulated else OBJECT_STORE_BYTES}",
        "--dashboard-agent-listen-port=0",
        *([] if one.alone else ["--min-worker-port=0", "--max-worker-port=0"]),
        *(_of_head(one) if one.address is None else []),
        f"--temp-dir={one.folder}",
        "--disable-usage-stats",
    ]


def _of_head(one: Joining) -> list[str]:
    client = [] if one.client_port is None else [f"--ray-client-server-port={one.client_port}"]
    return [f"--dashboard-host={one.dashboard_host}", f"--dashboard-port={one.dashboard_port}", *client]


def ray_environment(joining: Joining, environ: MutableMapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of the node's processes, launches among them; how Ray authenticates is in `environ` already."""
    kept = {key: value for key, value in environ.items() if key not in UNSET}
    kept |= EVENLY | {f"RAY_EXPERIMENTAL_NOSET_{vendor}_VISIBLE_DEVICES": "1" for vendor in LEFT_TO_LAUNCH}
    if named := environ.get(NODE_ENV):
        kept[NODE_ENV] = str(Path(named).expanduser().absolute())
    return {**kept, MARK: mark(joining.name, joining.folder), PYTHON: sys.executable}


def last_words(log: str) -> str:
    """What `ray start` said of its failure: its last line that says something."""
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in log.splitlines()]
    said = [line for line in plain if line and not line.startswith(("File ", "^", "~", "Traceback"))]
    return said[-1][:300] if said else "without a word"
