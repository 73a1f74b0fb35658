"""What a launch needs on its node before an engine starts: the right to ask for it, the weights, the checkpoint.

On a cluster a matrix comes from somebody else: it may set the arguments and name the paths that the node's settings
let it, and weights are found on this node or fetched to it, once. A run on the user's own machine (`local`) was
planned here: its paths are right, and its arguments are the user's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fleetbench.artifact.kinds import SERVED
from fleetbench.artifact.need import Need
from fleetbench.artifact.supply import supply
from fleetbench.artifact.types import Artifact
from fleetbench.engine import settings
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.fleet.launch.node_cache import cache_folder
from fleetbench.fleet.launch.permits import check_args, check_paths
from fleetbench.matrix.types import ModelInfo, Recipe

LOCAL = "local"


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
    here, recipe = need, need.recipe
    if _has_to_be_found(need):
        from fleetbench.fleet.launch import weights  # noqa: PLC0415 - what is embedded does not wait for it to load

        recipe = weights.with_draft(need, node)
        here = weights.find(need, node)
    artifact = supply(here, cache_folder(node))
    if artifact is not None:  # rows join on what was planned
        artifact = replace(artifact, artifact_id=need.artifact_id)
    return Staged(model=here.model, recipe=recipe, artifact=artifact)


def _has_to_be_found(need: Need) -> bool:
    """Whether the model, or its draft model, is one that a node has or fetches."""
    draft = need.recipe.draft
    named = need.model.hub is not None or need.folder is not None or (draft is not None and draft.hub is not None)
    return named and need.engine != SERVED
