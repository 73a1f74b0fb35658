"""What a launch needs on its node before an engine starts: the right to ask for it, the weights, the checkpoint.

On a cluster a matrix comes from somebody else: it may set the arguments and name the paths that the node's settings
let it, and weights are found on this node or fetched to it, once. A run on the user's own machine (`local`) was
planned here: its paths are right, and its arguments are the user's own.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fleetbench.artifact import cache as shelf
from fleetbench.artifact import hub, models
from fleetbench.artifact.hub import Pinned
from fleetbench.artifact.kinds import SERVED
from fleetbench.artifact.models import FoundModel
from fleetbench.artifact.supply import Need, supply
from fleetbench.artifact.types import Artifact, ArtifactError, PassingError
from fleetbench.engine import matrix_args, settings
from fleetbench.engine.settings import NodeSettings
from fleetbench.errors import InputError
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.matrix.types import ModelInfo, Recipe

LOCAL = "local"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
PAUSES_S = (2.0, 8.0, 30.0)
"""Before a download goes on that the network or the hub broke off; the library itself waits seconds, if at all."""
_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What a launch needs as it is on this node.

    recipe: with the path of its draft model; artifact: the checkpoint, None where its server runs already.
    """

    model: ModelInfo
    recipe: Recipe
    artifact: Artifact | None


def need_of(job: LaunchJob) -> Need:
    """The checkpoint that the launch needs."""
    launch = job.launch
    return Need(
        artifact_id=launch.artifact_id,
        engine=launch.engine.name,
        recipe=launch.recipe,
        model=launch.model,
        folder=job.model_path,
    )


def stage(job: LaunchJob, need: Need) -> Staged:
    """All that the launch needs beside its engine, on this node.

    Raises:
        InputError: the node's settings refuse what the matrix asks; a model that is broken.
        ArtifactError: weights that are not here and cannot be fetched, or a checkpoint that cannot be made.
    """
    node = settings.read_settings()
    if job.launch.hardware == LOCAL and job.proof is None:  # no cluster's: a node there may be tagged so, too
        return Staged(model=need.model, recipe=need.recipe, artifact=supply(need, job.cache))
    check_args(job, node)
    check_paths(need.recipe, node)
    recipe = with_draft(need, node)
    here = weights(need, node)
    artifact = supply(here, cache_folder(node))
    if artifact is not None:  # rows join on what was planned
        artifact = replace(artifact, artifact_id=need.artifact_id)
    return Staged(model=here.model, recipe=recipe, artifact=artifact)


def cache_folder(node: NodeSettings | None = None) -> Path:
    """Where this node keeps the checkpoints that it made.

    Raises:
        UnusableEnvironmentError: nobody said where, and the user has no home.
    """
    node = settings.read_settings() if node is None else node
    return node.cache or shelf.default_cache()


def check_args(job: LaunchJob, node: NodeSettings) -> None:
    """Raises InputError where the matrix sets arguments that the node's settings do not allow."""
    engine = job.launch.engine
    here = node.engines.get(engine.name)
    if here is not None and (why := matrix_args.refusal(engine.name, engine.args, here.matrix_args)):
        raise InputError((why,))


def check_paths(recipe: Recipe, node: NodeSettings) -> None:
    """Refuse what a recipe names beside the model where it is not here, or the node's settings keep it to themselves.

    An adapter's name ends up in the engine's arguments, so that it must not look like one.

    Raises:
        InputError: every one of them.
    """
    mistakes: list[str] = []
    for what, path in _beside(recipe):
        if path.name.startswith("-"):
            mistakes.append(f"the {what} {path}: a name that begins with `-` reads as an argument (rename it)")
        elif not _may_name(path, node):
            mistakes.append(_forbidden(f"the {what} {path}", path))
        elif not path.exists():
            mistakes.append(f"the {what} {path} is not on this node (copy it there)")
    if mistakes:
        raise InputError(tuple(mistakes))


def _beside(recipe: Recipe) -> Iterator[tuple[str, Path]]:
    yield from (("adapter", Path(path)) for path in recipe.lora)
    if recipe.draft is not None and recipe.draft.model is not None and recipe.draft.hub is None:
        yield "draft model", Path(recipe.draft.model)
    if recipe.calibration is not None:
        yield "calibration text", Path(recipe.calibration.path)


def _may_name(path: Path, node: NodeSettings) -> bool:
    """Whether it is below a folder that the settings name, links followed."""
    try:
        real = path.resolve()
        return any(real.is_relative_to(folder.resolve()) for folder in (*node.matrix_paths, *node.models.values()))
    except (OSError, RuntimeError):  # a loop of links
        return False


def _forbidden(what: str, path: Path) -> str:
    remedy = f"write `matrix_paths: [{path.parent}]` in the node's settings"
    return f"{what} may not be named by a matrix on this node: {remedy}"


def weights(need: Need, node: NodeSettings) -> Need:
    """The need with the model's folder on this node: by the settings, by its path, by its hub id, or fetched.

    Raises:
        InputError: a path that a matrix may not name here; a broken model.
        ArtifactError: it is nowhere and cannot be fetched, or is not the one that was planned.
    """
    model = need.model
    if need.engine == SERVED or (model.hub is None and need.folder is None):
        return need
    own = node.models.get(model.name) or (node.models.get(model.hub) if model.hub else None)
    if own is not None:
        return _of(need, _look(model, own))
    if need.folder is not None and need.folder.is_dir() and _may_name(need.folder, node):
        return _of(need, _look(model, need.folder))
    if model.hub is None:
        assert need.folder is not None  # noqa: S101  seen above
        if need.folder.is_dir():
            raise InputError((_forbidden(f"the model {need.folder}", need.folder),))
        why = f"write where it is as `models: {{{model.name}: FOLDER}}` in the node's settings"
        raise ArtifactError(f"model {model.name} is not on this node ({need.folder}): {why}")
    return _of(need, _cached(model, model.hub, node) or _fetched(model, model.hub, node))


def _look(model: ModelInfo, folder: Path) -> FoundModel:
    if model.dummy:
        return models.dummy(folder, model.name)
    return models.in_folder(model.name, folder, hub=model.hub, revision=model.revision)


def _of(need: Need, found: FoundModel) -> Need:
    """The need of what was found; a checkpoint of weights that were not known when it was planned has its own id."""
    planned = need.model
    if found.info.lacks is not None:
        raise ArtifactError(f"model {planned.name} is not whole in {found.folder}: {found.info.lacks}")
    if planned.lacks is None and found.info.digest != planned.digest:
        raise ArtifactError(
            f"model {planned.name} in {found.folder} is not the one that was planned: its weights have the digest "
            f"{found.info.digest[:_SHOWN]}, planned was {planned.digest[:_SHOWN]} (copy it anew, or plan again)"
        )
    here = replace(planned, digest=found.info.digest, revision=found.info.revision or planned.revision, lacks=None)
    artifact_id = need.artifact_id
    if here.digest != planned.digest:
        artifact_id = hashlib.sha256(f"{artifact_id}\0{here.digest}".encode()).hexdigest()[: len(artifact_id)]
    return replace(need, artifact_id=artifact_id, model=here, folder=found.folder)


def _hub_cache(node: NodeSettings) -> Path:
    """Where weights of the hub are fetched to."""
    return node.cache / "hub" if node.cache is not None else hub.cache_folder()


def _caches(node: NodeSettings) -> Iterator[Path]:
    yield from dict.fromkeys((_hub_cache(node), hub.cache_folder()))


def _lock_of(where: str) -> str:
    """Of its download, among what is being made in the node's cache."""
    return f"fetch-{hashlib.sha256(where.encode()).hexdigest()[:32]}"


def _cached(model: ModelInfo, where: str, node: NodeSettings) -> FoundModel | None:
    """The model whole in a cache of this node; None where it is not."""
    for cache in _caches(node):
        pinned = hub.pinned(where, model.revision, cache)
        if pinned.folder is not None:
            found = models.in_folder(model.name, pinned.folder, hub=where, revision=pinned.commit)
            if found.info.lacks is None:
                return replace(found, info=replace(found.info, hub=where, revision=pinned.commit))
    return None


def _fetched(model: ModelInfo, where: str, node: NodeSettings) -> FoundModel:
    """The model, fetched by the first launch that wants it while the others wait."""
    with shelf.making(cache_folder(node), _lock_of(where)):
        found = _cached(model, where, node)
        if found is None:
            pinned = _download(where, model.revision, node)
            found = _cached(replace(model, revision=pinned.commit), where, node)
    if found is None:
        raise ArtifactError(f"model {where} has no weights in *.safetensors files on the hub: engines need those")
    return found


def _download(where: str, revision: str | None, node: NodeSettings) -> Pinned:
    """Fetch it into the node's cache; what breaks off goes on after a pause, some times."""
    way = replace(fetch_way(where, node), cache=_hub_cache(node), quiet=True)
    for pause_s in PAUSES_S:
        try:
            return hub.fetch(where, revision, way=way)
        except PassingError:
            time.sleep(pause_s)
    return hub.fetch(where, revision, way=way)


def with_draft(need: Need, node: NodeSettings) -> Recipe:
    """The recipe with its draft model's folder on this node, where the matrix names it by its hub id.

    Raises:
        InputError: an engine that takes a file.
        ArtifactError: it is nowhere and cannot be fetched.
    """
    recipe, draft = need.recipe, need.recipe.draft
    if draft is None or draft.hub is None or need.engine == SERVED:
        return recipe
    if need.kind == "gguf":
        why = f"the draft model {draft.model} is of the hub, and {need.engine} takes a GGUF file (give its path)"
        raise InputError((why,))
    where, revision = draft.hub
    folder = node.models.get(where) or _draft_here(where, revision, node)
    if folder is None:
        with shelf.making(cache_folder(node), _lock_of(where)):
            folder = _draft_here(where, revision, node)
            if folder is None:
                pinned = _download(where, revision, node)
                folder = _draft_here(where, pinned.commit, node)
    if folder is None:
        raise ArtifactError(f"draft model {where} has no weights in *.safetensors files on the hub: engines need those")
    return replace(recipe, draft=replace(draft, model=str(folder)))


def _draft_here(where: str, revision: str | None, node: NodeSettings) -> Path | None:
    """Its folder in a cache of this node, with all of its weights; its config.json may be of no model that we know."""
    for cache in _caches(node):
        folder = hub.pinned(where, revision, cache).folder
        if folder is not None and models.has_weights(folder):
            return folder
    return None


def fetch_way(where: str, node: NodeSettings) -> hub.Way:
    """How the node's settings have a model fetched; its token is read now and is in no environment.

    Raises:
        ArtifactError: nothing is fetched here.
        InputError: the token's file cannot be used.
    """
    if node.hub.offline or any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE):
        why = "it is not on this node, which is offline: write where it is under `models:` in the node's settings"
        raise ArtifactError(f"model {where} cannot be fetched: {why}")
    token_file = node.hub.token_file
    if token_file is None:
        right = "HF_TOKEN, or `hub: {token_file: FILE}` in the node's settings"
        return hub.Way(endpoint=node.hub.endpoint, right=right)
    token = settings.read_token(token_file)
    return hub.Way(endpoint=node.hub.endpoint, token=token, right=f"the token in {token_file}")
