"""What can be planned for: a fleet as a file says it, every kind of the catalog, or this machine alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from fleetbench.catalog import lookup
from fleetbench.errors import InputError
from fleetbench.fleet.embedded import LOCAL
from fleetbench.matrix.checks import sentence
from fleetbench.matrix.document import dotted
from fleetbench.matrix.fields import EngineName as KnownEngine
from fleetbench.matrix.fields import EngineVersion, Hardware, Many, Short, spell_engine
from fleetbench.plan.nodes import Use
from fleetbench.plan.types import Fleet, NodeKind

ASSUMED_NODES = 64
"""Nodes of each kind where no fleet was given: more than any matrix of one run asks for."""
_MAX_BYTES = 1_000_000


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NodeEngineForm(_Form):
    """An engine on the nodes, with its version."""

    name: KnownEngine
    version: EngineVersion


class NodesForm(_Form):
    """Nodes of one kind: GPUs of each, how many there are, which engines they have, and whether launches share one."""

    hardware: Hardware
    gpus: Annotated[int, Field(ge=0, le=1024)] | None = None
    count: Annotated[int, Field(ge=1, le=100_000)] = 1
    engines: Many[Annotated[NodeEngineForm, Short(spell_engine)]] | None = None
    use: Use = "whole"


class FleetForm(_Form):
    """A fleet: its nodes by kind."""

    nodes: Many[NodesForm]


_FORMS: dict[tuple[str, ...], type[BaseModel]] = {("nodes",): NodesForm, ("nodes", "engines"): NodeEngineForm}


def read_fleet(path: Path) -> Fleet:
    """The fleet in a YAML file, like `nodes: [{hardware: h100, gpus: 8, count: 4, engines: [vllm==0.33.0]}]`.

    Raises:
        InputError: it cannot be read, or says something wrong: every mistake by its place.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError((f"{path}: is not a regular file (a fleet is a YAML file with `nodes:`)",))
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise InputError((f"{path}: is larger than {_MAX_BYTES} bytes (a fleet is a small file)",))
        tree = yaml.safe_load(content.decode("utf-8"))
    except OSError as error:
        raise InputError(
            (f"{path}: cannot be read: {error.strerror} (a fleet is a YAML file with `nodes:`)",)
        ) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError((f"{path}: is no YAML: {' '.join(str(error).split())[:300]}",)) from error
    try:
        form = FleetForm.model_validate(tree)
    except ValidationError as error:
        raise InputError(
            tuple(f"{path}: {dotted(e['loc']) or 'nodes'}: {_sentence(e)}" for e in error.errors(include_url=False))
        ) from error
    kinds: dict[str, NodeKind] = {}
    for nodes in form.nodes:
        if nodes.hardware in kinds:
            raise InputError((f"{path}: {nodes.hardware} stands twice (put its nodes together)",))
        kinds[nodes.hardware] = _kind(path, nodes)
    return Fleet(kinds=kinds, about=f"the fleet of {path.name}")


def _sentence(error: ErrorDetails) -> str:
    """What is wrong, and what to do."""
    if error["type"] != "extra_forbidden":
        return sentence(error)
    words = tuple(step for step in error["loc"][:-1] if isinstance(step, str))
    keys = tuple(_FORMS.get(words, FleetForm).model_fields)
    near = lookup.nearest(str(error["loc"][-1]), keys)
    return f"unknown key ({f'did you mean {near[0]}?' if near else 'known: ' + ', '.join(keys)})"


def every_kind(also: Collection[str] = ()) -> Fleet:
    """Nodes of every kind that the catalog knows, with every engine: what a plan without a fleet is made for.

    also: kinds that are played by others.
    """
    kinds = {
        name: NodeKind(hardware=name, gpus=info.gpus_per_node, nodes=ASSUMED_NODES)
        for name in dict.fromkeys((*lookup.gpu_names(), *also))
        if (info := lookup.gpu_info(name))
    }
    return Fleet(kinds=kinds, about="the catalog")


def this_machine(engines: Mapping[str, str]) -> Fleet:
    """This machine, by the one tag that it has here, with the engines that can be started on it."""
    return Fleet(kinds={LOCAL: NodeKind(hardware=LOCAL, gpus=0, nodes=1, engines=engines)}, about="this machine")


def _kind(path: Path, nodes: NodesForm) -> NodeKind:
    info = lookup.gpu_info(nodes.hardware)
    names = [engine.name for engine in nodes.engines or ()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        why = f"{twice} stands twice (nodes are planned for with one version of it)"
        raise InputError((f"{path}: {nodes.hardware}: {why}",))
    gpus = nodes.gpus if nodes.gpus is not None else (info.gpus_per_node if info else 0)
    engines = {engine.name: engine.version for engine in nodes.engines} if nodes.engines else None
    return NodeKind(hardware=nodes.hardware, gpus=gpus, nodes=nodes.count, engines=engines, use=nodes.use)
