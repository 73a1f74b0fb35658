"""Makes the checkpoints of a plan ahead of any run, each once, and keeps what they cost."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fleetbench.artifact import hub, vendor_tools
from fleetbench.artifact.hf import CONFIG
from fleetbench.artifact.need import Need
from fleetbench.artifact.supply import supply
from fleetbench.artifact.types import Artifact, ArtifactError
from fleetbench.artifact.vendor_tools import Command
from fleetbench.catalog import lookup
from fleetbench.engine.settings import read_settings
from fleetbench.errors import InputError
from fleetbench.fleet.launch.weights import fetch_way
from fleetbench.fleet.planning import Planned
from fleetbench.fleet.rows import artifact_row
from fleetbench.matrix.read import read
from fleetbench.plan.types import EngineLaunch
from fleetbench.store.commit import Warehouse
from fleetbench.store.write import StoreError

State = Literal["here", "made", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One checkpoint: what it is for, where it is now, or why not; commands: how other tools would make it."""

    launch: EngineLaunch
    kind: str
    state: State
    artifact: Artifact | None
    why: str | None
    commands: tuple[Command, ...] = ()


def fetch_configs(path: Path, starting: Callable[[str], None]) -> None:
    """Fetch the config.json of every hub model of a matrix of which nobody here knows what it is, to plan with.

    Raises:
        InputError: the matrix is wrong.
        ArtifactError: no network, no such model, no access.
    """
    for spec in read(path).models:
        if spec.hub is None or lookup.published_model(spec.hub) or hub.pinned(spec.hub, spec.revision).folder:
            continue
        starting(f"fetching the {CONFIG} of {spec.hub}")
        hub.fetch(spec.hub, spec.revision, files=(CONFIG,), way=fetch_way(spec.hub, read_settings()))


def fetch_models(planned: Planned, starting: Callable[[str], None]) -> dict[str, str]:
    """Fetch the weights of every model of the plan that is on the hub and not here; why not, by the model's name.

    What was fetched is found when the matrix is planned again, then by its content.
    """
    missing = {
        launch.model.name: launch.model
        for launch in planned.plan.launches
        if launch.model.lacks is not None and launch.model.hub is not None
    }
    failed: dict[str, str] = {}
    for name, model in missing.items():
        starting(f"fetching {model.hub}")
        where = model.hub or name
        try:
            hub.fetch(where, model.revision, way=fetch_way(where, read_settings()))
        except ArtifactError as error:
            failed[name] = str(error)
    return failed


def prepare(
    planned: Planned,
    failed: Mapping[str, str],
    cache: Path,
    warehouse: Warehouse | None,
    starting: Callable[[str], None],
) -> Iterator[Prepared]:
    """Every checkpoint that the plan's launches need, in their order; one that fails does not stop the others.

    Only what is missing is made, so a call that was stopped goes on. `failed` says of models why they are not here.
    """
    seen: set[str] = set()
    for launch in planned.plan.launches:
        need = _need(planned, launch)
        if (key := f"{need.kind} {need.artifact_id}") in seen:
            continue
        seen.add(key)
        starting(f"{launch.model.name} {launch.recipe.name} for {launch.engine.name}")
        yield _one(
            planned.plan.run_id, need, launch, cache, warehouse=warehouse, unfetched=failed.get(launch.model.name)
        )


def _need(planned: Planned, launch: EngineLaunch) -> Need:
    return Need(
        artifact_id=launch.artifact_id,
        engine=launch.engine.name,
        recipe=launch.recipe,
        model=launch.model,
        folder=planned.model_paths[launch.model.name],
    )


def _one(
    run_id: str, need: Need, launch: EngineLaunch, cache: Path, *, warehouse: Warehouse | None, unfetched: str | None
) -> Prepared:
    try:
        artifact = supply(need, cache)
        row = artifact_row(run_id, launch, need.kind, artifact, socket.gethostname()) if artifact else None
        if warehouse is not None and row is not None:
            warehouse.commit("artifacts", [row], run_id=run_id, name=f"prepared-{need.artifact_id}")
    except (ArtifactError, InputError, StoreError) as error:
        target = Path(f"{need.model.name}-{need.recipe.name}")
        source = need.folder or Path(need.model.hub or need.model.name)
        commands = vendor_tools.commands(need.recipe, source, target) if need.kind == "compressed" else ()
        why = unfetched or str(error)
        return Prepared(launch=launch, kind=need.kind, state="failed", artifact=None, why=why, commands=commands)
    state: State = "made" if artifact and artifact.build_s is not None else "here"
    return Prepared(launch=launch, kind=need.kind, state=state, artifact=artifact, why=None)
