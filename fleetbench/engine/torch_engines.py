"""What the engines that serve Hugging Face folders by PyTorch take, ask back and refuse alike."""

from __future__ import annotations

from typing import Any

from fleetbench.engine import sixteen
from fleetbench.engine.protocol import LaunchError, LaunchSpec
from fleetbench.matrix.types import KvFormat, Recipe

SEEDS = 2**32


def dtype(recipe: Recipe) -> str:
    """PyTorch's name of what is computed in; `auto` leaves it to the checkpoint."""
    for name in (recipe.activations, recipe.weights):
        if name in sixteen.NAMES:
            return sixteen.torch(name)
    return "auto"


def requested(spec: LaunchSpec) -> dict[str, Any]:
    """What each of them says back whatever the recipe's weights are."""
    return {
        "kv_k": sixteen.common(spec.recipe.kv.k),
        "kv_v": sixteen.common(spec.recipe.kv.v),
        "context_tok": spec.context_tok,
        "slots": spec.slots,
        "tp": spec.parallel.tp,
        "pp": spec.parallel.pp,
        "dp": spec.parallel.dp,
        "prefix_caching": False,
        "dummy": spec.dummy,
        "seed": spec.seed % SEEDS,
    }


def made_in_flight(engine: str, spec: LaunchSpec, known: tuple[str, ...]) -> str | None:
    """The format to make of 16-bit weights while they load, one of `known`; None where there is nothing to make.

    A checkpoint that says itself how it is quantized needs no word for it, and the word would have to agree with it.

    Raises:
        LaunchError: `unsupported`, of a format that it does not make.
    """
    weights = spec.recipe.weights
    if spec.checkpoint == "compressed" or weights in sixteen.NAMES:
        return None
    if weights not in known:
        can = ", ".join(known)
        reason = f"it does not make {weights} of 16-bit weights while it loads them (but {can}): prepare a checkpoint"
        raise LaunchError(engine, "unsupported", reason, "")
    return weights


def refuse_two_caches(engine: str, kv: KvFormat) -> None:
    """Raises LaunchError (`unsupported`) where keys and values are to be stored in different formats."""
    if (kv.k, kv.k_scales) != (kv.v, kv.v_scales):
        raise LaunchError(engine, "unsupported", f"its cache has one format for keys and values, not {kv}", "")


def refuse_cache(engine: str, recipe: Recipe) -> None:
    """Raises LaunchError (`unsupported`) for a cache, or an attention over it, that none of them has."""
    refuse_two_caches(engine, recipe.kv)
    if recipe.attention == "fp8" and recipe.kv.k != "fp8":
        raise LaunchError(engine, "unsupported", "its attention multiplies in FP8 with an FP8 cache only", "")
    if recipe.attention not in {"auto", "fp8", *sixteen.NAMES}:
        reason = f"its attention cannot be asked to multiply in {recipe.attention}"
        raise LaunchError(engine, "unsupported", reason, "")


def as_wide_as_the_model(recipe: Recipe) -> bool:
    """Whether the cache needs no flag: it is so by itself, and some backends take no word for it."""
    kept = recipe.kv.k
    return kept == "auto" or (kept in sixteen.NAMES and dtype(recipe) in ("auto", sixteen.torch(kept)))
