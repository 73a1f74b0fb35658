"""Layers that a recipe keeps in 16 bits: what its words mean in a GGUF file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from fleetbench.artifact.mixtures import EMBEDDING, OUTPUT
from fleetbench.artifact.types import ArtifactError

EMBEDDINGS, LM_HEAD = "embeddings", "lm_head"
_ENDS = re.compile(r"(first|last) ([1-9][0-9]{0,4})")
_LAYER = re.compile(r"blk\.([0-9]+)\.")


def protected(words: Sequence[str], *, layers: int, tied: bool) -> Callable[[str], bool]:
    """Whether a tensor, by its GGUF name, stays as it is.

    Args:
        words: `embeddings`, `lm_head`, `first N`, `last N`.
        layers: that the model has.
        tied: the embedding is the output too, so that both words mean it.

    Raises:
        ArtifactError: an unknown word, or more layers than there are.
    """
    names: set[str] = set()
    kept: set[int] = set()
    for word in words:
        ends = _ENDS.fullmatch(word)
        if word == EMBEDDINGS:
            names.add(EMBEDDING)
        elif word == LM_HEAD:
            names.add(EMBEDDING if tied else OUTPUT)
        elif ends is None:
            known = f"{EMBEDDINGS}, {LM_HEAD}, first N, last N"
            raise ArtifactError(f"protect: {word!r} names no layers here (there are {known})")
        else:
            count = int(ends[2])
            if count > layers:
                raise ArtifactError(f"protect: {word!r} is more than the {layers} layers that the model has")
            kept.update(range(count) if ends[1] == "first" else range(layers - count, layers))

    def holds(name: str) -> bool:
        found = _LAYER.match(name)
        return name in names or (found is not None and int(found[1]) in kept)

    return holds
