"""A launch's weights on its node: found there, or fetched to it once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fleetbench.artifact import cache as shelf
from fleetbench.artifact import hub, models
from fleetbench.artifact.hub import Pinned
from fleetbench.artifact.models import FoundModel
from fleetbench.artifact.need import Need
from fleetbench.artifact.types import ArtifactError, PassingError
from fleetbench.engine import settings
from fleetbench.engine.settings import NodeSettings
from fleetbench.errors import InputError
from fleetbench.fleet.launch.node_cache import cache_folder
from fleetbench.fleet.launch.permits import forbidden, may_name
from fleetbench.matrix.types import ModelInfo, Recipe

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
PAUSES_S = (2.0, 8.0, 30.0)
"""Before a download goes on that the network or the hub broke off; the library itself waits seconds, if at all."""
_SHOWN = 12


def find(need: Need, node: NodeSettings) -> Need:
    """The need with the model's folder on this node: by the settings, by its path, by its hub id, or fetched.

    Raises:
        InputError: a path that a matrix may not name here; a broken model.
        ArtifactError: it is nowhere and cannot be fetched, or is not the one that was planned.
    """
    model = need.model
    if model.hub is None and need.folder is None:  # embedded
        return need
    own = node.models.get(model.name) or (node.models.get(model.hub) if model.hub else None)
    if own is not None:
        return _of(need, _look(model, own))
    if need.folder is not None and need.folder.is_dir() and may_name(need.folder, node):
        return _of(need, _look(model, need.folder))
    if model.hub is None:
        assert need.folder is not None  # noqa: S101  seen above
        if need.folder.is_dir():
            raise InputError((forbidden(f"the model {need.folder}", need.folder),))
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
    if draft is None or draft.hub is None:
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
