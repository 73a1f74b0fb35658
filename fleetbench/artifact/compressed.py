"""What llmcompressor is asked for a recipe, or why it makes no such checkpoint. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fleetbench.artifact.presets import FP8_BLOCK, FP8_STATIC, MADE_BY, OWN, PRESETS, SIXTEEN, Numbers, Preset
from fleetbench.artifact.types import ArtifactError
from fleetbench.matrix.types import Calibration, KvFormat, Recipe

TOOL = "llmcompressor"
METHODS = ("rtn", "gptq", "awq", "smoothquant")
SAMPLES, SEQUENCE_TOK = 512, 2048
"""The calibration text that is looked at where a recipe leaves it open: 512 samples are the default of llmcompressor's
`oneshot`, 2048 tokens what its examples take (or the model's own maximum, where that is less)."""

_ENDS = re.compile(r"(first|last) ([1-9][0-9]{0,4})")
_ALWAYS = (
    "lm_head",
    r"re:.*\.(?:mlp|block_sparse_moe)\.gate$",
    r"re:.*\.router$",
    r"re:.*(?:visual|vision_tower|vision_model|multi_modal_projector).*",
)
"""Left alone in every checkpoint, as in the tool's examples: the output, what routes to experts, and what sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """A checkpoint as llmcompressor is asked for it, and as it must come out.

    preset: the tool's name of the scheme, None where only the KV cache gets scales; form, stored: see `Preset`; kv: of
    the cache; calibrated: whether a text is looked at.
    """

    preset: str | None
    method: str
    form: str
    stored: tuple[str, str]
    weights: Numbers | None
    inputs: Numbers | None
    kv: Numbers | None
    calibrated: bool


def scheme(recipe: Recipe) -> Scheme:
    """What to ask llmcompressor for.

    Activations that the recipe leaves open are of the weights' own format for FP8, INT8, NVFP4, MXFP4 and MXFP8, else
    16 bits. The KV cache gets calibrated scales where the recipe brings a text or names their granularity; else the
    cache's format is the engine's affair and not the checkpoint's.

    Raises:
        ArtifactError: the tool makes no such checkpoint, the recipe contradicts itself, or it lacks a calibration.
    """
    recipe = replace(recipe, method="rtn") if recipe.method == "auto" else recipe
    kv = _kv(recipe.kv, recipe.calibration)
    if recipe.weights in SIXTEEN:
        made = _cache_alone(recipe, kv)
    else:
        preset = _preset(recipe)
        _check_method(recipe, preset)
        made = Scheme(
            preset="W4A16_ASYM" if recipe.method == "awq" else preset.name,
            method=recipe.method,
            form=preset.form,
            stored=preset.stored,
            weights=preset.weights,
            inputs=preset.inputs,
            kv=kv,
            calibrated=recipe.method != "rtn" or kv is not None or _fixed(preset.inputs),
        )
    if made.calibrated and recipe.calibration is None:
        raise ArtifactError(f"{_name(recipe)} needs a text to look at: add `calibration: {{path: corpus.txt}}`")
    return made


def ignored(protect: Sequence[str], *, layers: int) -> tuple[str, ...]:
    """Names and patterns of layers that stay as they are, as llmcompressor takes them.

    The output (`lm_head`) and embeddings always stay.

    Args:
        protect: `embeddings`, `lm_head`, `first N`, `last N`.
        layers: that the model has.

    Raises:
        ArtifactError: an unknown word, or nothing is left to quantize.
    """
    kept: set[int] = set()
    for word in protect:
        ends = _ENDS.fullmatch(word)
        if ends is not None:
            count = min(int(ends[2]), layers)
            kept.update(range(count) if ends[1] == "first" else range(layers - count, layers))
        elif word not in ("embeddings", "lm_head"):
            raise ArtifactError(
                f"protect: {word!r} names no layers here (there are embeddings, lm_head, first N, last N)"
            )
    if len(kept) >= layers:
        raise ArtifactError(f"protect: {', '.join(protect)} covers all {layers} layers: nothing is left to quantize")
    numbers = "|".join(map(str, sorted(kept)))
    # Two names must follow (`self_attn.q_proj`): the attention itself, which holds the cache's scales, is no weight.
    return (*_ALWAYS, *((rf"re:(?:.*\.)?layers\.(?:{numbers})\.[^.]+\..+",) if kept else ()))


def is_ignored(name: str, patterns: Sequence[str]) -> bool:
    """Whether a module's name is one of those that `ignored` gave."""
    return any(
        re.match(p.removeprefix("re:"), name) is not None if p.startswith("re:") else p == name for p in patterns
    )


def _preset(recipe: Recipe) -> Preset:
    weights, asked, scales, group = recipe.weights, recipe.activations, recipe.scales, recipe.group_size
    inputs = "" if asked in SIXTEEN else asked
    if asked == "auto" and weights in OWN:
        inputs = weights
    preset = PRESETS.get((weights, inputs))
    if preset is None:
        raise ArtifactError(_unmade(weights, inputs))
    if preset.inputs is None:
        if scales != "auto":
            raise ArtifactError(f"{_name(recipe)}: activations of 16 bits have no scales: leave `scales` out")
        return replace(preset, weights=_grouped(recipe, preset.weights))
    if scales == "static":
        if (weights, inputs) == ("fp8", "fp8"):
            preset = FP8_STATIC
        elif (weights, inputs) == ("int8", "int8"):
            preset = replace(preset, inputs=Numbers(bits=8, kind="int", strategy="tensor"))
        else:
            why = f"{TOOL} works out the scales of {inputs} activations as they come: write `scales: dynamic`"
            raise ArtifactError(f"{_name(recipe)}: {why}")
    elif (weights, inputs, group) == ("fp8", "fp8", 128):
        return FP8_BLOCK
    return replace(preset, weights=_grouped(recipe, preset.weights))


def _grouped(recipe: Recipe, weights: Numbers) -> Numbers:
    """The weights' numbers with the recipe's group size, where the format leaves it open."""
    group = recipe.group_size
    if weights.strategy == "group" and weights.kind == "int":
        if group is None and weights.bits == 8:  # noqa: PLR2004 - a scale for each channel, as W8A8 has
            return replace(weights, strategy="channel", group_size=None)
        return replace(weights, group_size=group or weights.group_size)
    if group in (None, weights.group_size):
        return weights
    if weights.group_size is not None:
        own = f"{weights.group_size} weights share a scale by definition"
    else:
        own = "its weights share a scale by channel or tensor" + (
            ", or 128 x 128 of them" if recipe.weights == "fp8" else ""
        )
    raise ArtifactError(f"{_name(recipe)}: group_size {group} does not fit {recipe.weights}: {own}")


def _check_method(recipe: Recipe, preset: Preset) -> None:
    method = recipe.method
    if method not in METHODS:
        raise ArtifactError(f"{TOOL} is not asked for method {method!r} here (there are {', '.join(METHODS)})")
    made = MADE_BY.get(method, (recipe.weights,))
    if recipe.weights not in made:
        raise ArtifactError(f"{_name(recipe)} contradicts itself: {method} makes {', '.join(made)} weights")
    if method == "awq" and preset.inputs is not None:
        raise ArtifactError(f"{_name(recipe)} contradicts itself: awq leaves activations in 16 bits")
    if method == "smoothquant" and preset.inputs is None:
        raise ArtifactError(
            f"{_name(recipe)} contradicts itself: smoothquant is for narrow activations, these have 16 bits"
        )


def _kv(kv: KvFormat, text: Calibration | None) -> Numbers | None:
    """The cache's numbers where the checkpoint is to hold its scales."""
    if kv.k in SIXTEEN and kv.v in SIXTEEN:
        return None
    granularity = {kv.k_scales, kv.v_scales}
    same = kv.k == kv.v and len(granularity) == 1
    if granularity == {"auto"} and (text is None or not same or kv.k != "fp8"):
        return None
    if not same:
        raise ArtifactError(f"kv {kv}: {TOOL} makes one format for keys and values")
    if kv.k != "fp8":
        raise ArtifactError(f"kv {kv}: {TOOL} is asked for scales of FP8 caches; other formats are the engine's affair")
    strategies = {"auto": "tensor", "per_tensor": "tensor", "per_head": "attn_head"}
    if kv.k_scales not in strategies:
        raise ArtifactError(f"kv {kv}: {TOOL} is asked for scales per_tensor or per_head")
    return Numbers(bits=8, kind="float", strategy=strategies[kv.k_scales])


def _cache_alone(recipe: Recipe, kv: Numbers | None) -> Scheme:
    if kv is None:
        raise ArtifactError(f"{_name(recipe)}: weights of 16 bits are the model as it is: there is nothing to make")
    if recipe.method != "rtn" or recipe.activations not in SIXTEEN:
        raise ArtifactError(
            f"{_name(recipe)}: weights of 16 bits are neither made by {recipe.method} nor multiplied narrow"
        )
    return Scheme(
        preset=None, method="rtn", form="dense", stored=("", ""), weights=None, inputs=None, kv=kv, calibrated=True
    )


def _fixed(inputs: Numbers | None) -> bool:
    return inputs is not None and inputs.dynamic is not True


def _unmade(weights: str, inputs: str) -> str:
    pairs = [a or "16 bits" for w, a in PRESETS if w == weights]
    if pairs:
        return f"{TOOL} makes no {weights} weights with {inputs or '16-bit'} activations (there are {', '.join(pairs)})"
    formats = ", ".join(dict.fromkeys(w for w, _ in PRESETS))
    return f"{TOOL} makes no {weights} weights (there are {formats})"


def _name(recipe: Recipe) -> str:
    return f"{recipe.weights} by {recipe.method}"
