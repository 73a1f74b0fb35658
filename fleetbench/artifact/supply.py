"""The checkpoint that a launch needs, on this machine."""

from __future__ import annotations

from pathlib import Path

from fleetbench.artifact import cache as shelf
from fleetbench.artifact.kinds import SERVED
from fleetbench.artifact.need import Need
from fleetbench.artifact.types import Artifact, ArtifactError

_FILES = {"gguf": shelf.MODEL, "compressed": shelf.FOLDER}


def supply(need: Need, cache: Path) -> Artifact | None:
    """Find it or make it, once; None for a server that runs already. Weights that are not here are not fetched.

    Raises:
        ArtifactError: it cannot be made, or the model is not here.
        InputError: the model's folder is broken.
    """
    if need.engine == SERVED:
        return None
    if need.model.lacks is not None:
        raise ArtifactError(need.model.lacks)
    file = _FILES.get(need.kind)
    found = shelf.find(cache, need.artifact_id, file) if file else None
    if found is not None:
        return found
    from fleetbench.artifact import making  # noqa: PLC0415 - what is here is found without loading what makes it

    return making.make(need, cache)
