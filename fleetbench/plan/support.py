"""What an engine does with a format on a kind of hardware: the catalog's first rule that fits, or why none does."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from fleetbench.catalog import lookup
from fleetbench.catalog.types import Axis, EngineSpec, GpuInfo, SupportRule
from fleetbench.matrix.resolve import SIXTEEN
from fleetbench.matrix.types import ModelInfo, Recipe

NOUNS: dict[Axis, str] = {
    "weights": "weights format",
    "activations": "activation format",
    "kv": "KV cache format",
    "attention": "attention format",
}
_KINDS = {"dense": "dense models", "moe": "mixtures of experts", "mla": "latent attention (MLA)"}
_WIDE = frozenset({*SIXTEEN, "fp32", "f32"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """rule: the one that fits, None where none does; lack: whose fault that is; sentence: what a person should know."""

    rule: SupportRule | None
    lack: Literal["engine", "hardware"] | None
    sentence: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One format of a recipe, for a model, of a version of an engine."""

    spec: EngineSpec
    version: str
    axis: Axis
    name: str
    recipe: Recipe
    model: ModelInfo

    @property
    def scales(self) -> tuple[str, ...]:
        """Granularities that the recipe names for this format of the cache."""
        kv = self.recipe.kv
        named = (kv.k_scales if kv.k == self.name else "auto", kv.v_scales if kv.v == self.name else "auto")
        return tuple(dict.fromkeys(scales for scales in named if scales != "auto"))


def support(
    *, spec: EngineSpec, version: str, gpu: GpuInfo, axis: Axis, name: str, recipe: Recipe, model: ModelInfo
) -> Support:
    """What the catalog says of one format of a recipe, for a model."""
    asked = _Asked(spec=spec, version=version, axis=axis, name=name, recipe=recipe, model=model)
    rules = [rule for rule in spec.rules if rule.axis == axis and name in rule.formats]
    if not rules:
        known = dict.fromkeys(format_ for rule in spec.rules if rule.axis == axis for format_ in rule.formats)
        why = f"{spec.title} has no {NOUNS[axis]} {name}; it has {_few(list(known))}"
        return Support(rule=None, lack="engine", sentence=why, source=spec.source)
    fitting, why = _narrowed(rules, asked, _FIRST)
    here = [rule for rule in fitting if _runs_on(rule, gpu)]
    if not why:
        everywhere, nowhere = _narrowed(fitting, asked, _THEN)
        held, why = _narrowed(here, asked, _THEN) if here else (here, nowhere)
    if why:
        return Support(rule=None, lack="engine", sentence=why, source=(here or rules)[0].source)
    if held:
        return Support(
            rule=held[0], lack=None, sentence=_said(spec, gpu, name, held[0], everywhere), source=held[0].source
        )
    return _not_there(asked, gpu, everywhere)


def in_versions(spec: EngineSpec, version: str) -> bool:
    """Whether the catalog speaks of this version of the engine; what is no version is taken as it is."""
    return _of_version(spec.versions, version)


def _narrowed(
    rules: list[SupportRule], asked: _Asked, conditions: tuple[_Condition, ...]
) -> tuple[list[SupportRule], str]:
    """The rules whose conditions all hold, or what the first condition that leaves none of them is about."""
    for holds, say in conditions:
        kept = [rule for rule in rules if holds(rule, asked)]
        if not kept:
            return [], say(rules, asked)
        rules = kept
    return rules, ""


def _not_there(asked: _Asked, gpu: GpuInfo, rules: list[SupportRule]) -> Support:
    """Whose fault it is that none of the rules is for this hardware, and what the nearest of them says."""
    where = ", ".join(_kinds(rules, {"native", "experimental", "emulated"})) or "no kind of this catalog"
    title, nearest = asked.spec.title, rules[0]
    if not _multiplies(gpu, asked):
        sentence = f"{_word(asked.name)} does not run on {gpu.name}: {title} has it on {where} only"
        return Support(rule=None, lack="hardware", sentence=sentence, source=nearest.source)
    why = f" ({nearest.because})" if nearest.because else ""
    sentence = f"{title} has no {_what(asked)} on {gpu.name}, it has them on {where}{why}"
    return Support(rule=None, lack="engine", sentence=sentence, source=nearest.source)


def _multiplies(gpu: GpuInfo, asked: _Asked) -> bool:
    """Whether the matrix units take what would be multiplied: every kind has 16 or 32 bits; a cache is only read."""
    if asked.axis == "kv":
        return True
    factor = asked.recipe.activations if asked.axis == "weights" else asked.name
    info = lookup.format_info(factor)
    return factor in _WIDE or ((info.unit if info else "") or factor) in gpu.native


def _said(spec: EngineSpec, gpu: GpuInfo, name: str, rule: SupportRule, fitting: list[SupportRule]) -> str:
    if rule.verdict != "emulated":
        return rule.because
    native = _kinds(fitting, {"native"})
    only = f"{', '.join(native)} only: " if native else ""
    info = lookup.format_info(name)
    if info is not None and (info.unit or name) in gpu.native:
        only = f"{spec.title} does not use the units for {_word(name)} that {gpu.name} has: "
        return f"{only}it runs without their speed-up{f' ({rule.because})' if rule.because else ''}"
    by = f" by {rule.kernel.capitalize()}" if rule.kernel and rule.kernel != "emulation" else ""
    why = f" ({rule.because})" if rule.because else ""
    return f"{only}{_word(name)} has no tensor cores on {gpu.name}; {spec.title} would emulate it{by}{why}"


def _kinds(rules: list[SupportRule], verdicts: Collection[str]) -> list[str]:
    """Hardware on which the first rule that holds there has one of the verdicts."""
    found = ((name, _first(rules, gpu)) for name in lookup.gpu_names() if (gpu := lookup.gpu_info(name)))
    return [name for name, rule in found if rule is not None and rule.verdict in verdicts]


def _first(rules: list[SupportRule], gpu: GpuInfo) -> SupportRule | None:
    return next((rule for rule in rules if _runs_on(rule, gpu)), None)


def _runs_on(rule: SupportRule, gpu: GpuInfo) -> bool:
    return not rule.on or bool({gpu.name, gpu.arch, gpu.vendor} & set(rule.on))


# --- conditions: whether one holds, and what to say where it holds for none of the rules


def _of_versions(rule: SupportRule, asked: _Asked) -> bool:
    return _of_version(rule.versions, asked.version)


def _say_versions(rules: list[SupportRule], asked: _Asked) -> str:
    since = " or ".join(dict.fromkeys(rule.versions for rule in rules))
    return f"{asked.spec.title} {asked.version} has no {NOUNS[asked.axis]} {asked.name} (versions {since} have it)"


def _of_activations(rule: SupportRule, asked: _Asked) -> bool:
    return asked.axis != "weights" or not rule.activations or asked.recipe.activations in rule.activations


def _say_activations(rules: list[SupportRule], asked: _Asked) -> str:
    widths = _few(list(dict.fromkeys(width for rule in rules for width in rule.activations)))
    title, activations = asked.spec.title, asked.recipe.activations
    return f"{title} multiplies {asked.name} weights with {widths} activations, not with {activations}"


def _of_models(rule: SupportRule, asked: _Asked) -> bool:
    """A model whose shape nobody read is taken to be of the kind that is asked for."""
    shape = asked.model.shape
    return not rule.models or shape is None or bool(set(rule.models) & set(_classes(asked.model)))


def _say_models(rules: list[SupportRule], asked: _Asked) -> str:
    wanted = dict.fromkeys(_KINDS.get(name, name) for rule in rules for name in rule.models)
    kind, *_, architecture = _classes(asked.model)
    kind = kind if kind == "dense" else f"{kind} ({architecture})"
    why = rules[0].because
    said = f"{asked.spec.title} has {_what(asked)} for {' and '.join(wanted)} only, {asked.model.name} is {kind}"
    return f"{said} ({why})" if why else said


def _classes(model: ModelInfo) -> tuple[str, ...]:
    """What a rule may call a model, its class last."""
    shape = model.shape
    if shape is None:
        return ()
    latent = ("mla",) if shape.attention == "mla" else ()
    return ("moe" if shape.experts else "dense", *latent, shape.architecture)


def _of_groups(rule: SupportRule, asked: _Asked) -> bool:
    return not rule.group_sizes or asked.recipe.group_size in rule.group_sizes


def _say_groups(rules: list[SupportRule], asked: _Asked) -> str:
    sizes = _few([str(size) for size in sorted({size for rule in rules for size in rule.group_sizes})])
    given = asked.recipe.group_size
    instead = "one scale a channel" if given is None else f"groups of {given}"
    return f"{asked.spec.title} has {_what(asked)} in groups of {sizes} only, not with {instead} (set group_size)"


def _of_methods(rule: SupportRule, asked: _Asked) -> bool:
    return asked.axis != "weights" or not rule.methods or asked.recipe.method in rule.methods


def _say_methods(rules: list[SupportRule], asked: _Asked) -> str:
    methods = _few(list(dict.fromkeys(method for rule in rules for method in rule.methods)))
    return f"{asked.spec.title} takes {_what(asked)} made by {methods}, not by {asked.recipe.method}"


def _of_one_format(rule: SupportRule, asked: _Asked) -> bool:
    return not rule.same_kv or asked.recipe.kv.k == asked.recipe.kv.v


def _say_one_format(_: list[SupportRule], asked: _Asked) -> str:
    kv = asked.recipe.kv
    return f"{asked.spec.title} caches keys and values in one format there, not keys in {kv.k} and values in {kv.v}"


def _of_cache(rule: SupportRule, asked: _Asked) -> bool:
    return not rule.kv or {asked.recipe.kv.k, asked.recipe.kv.v} <= set(rule.kv)


def _say_cache(rules: list[SupportRule], asked: _Asked) -> str:
    formats = _few(list(dict.fromkeys(name for rule in rules for name in rule.kv)))
    return f"{asked.spec.title} has {_what(asked)} with a KV cache in {formats} only, not in {asked.recipe.kv}"


def _of_scales(rule: SupportRule, asked: _Asked) -> bool:
    return asked.axis != "kv" or not rule.granularities or set(asked.scales) <= set(rule.granularities)


def _say_scales(rules: list[SupportRule], asked: _Asked) -> str:
    has = _few(list(dict.fromkeys(name for rule in rules for name in rule.granularities)))
    return f"{asked.spec.title} has {_what(asked)} with scales {has} only, not {' and '.join(asked.scales)}"


_Condition = tuple[Callable[[SupportRule, _Asked], bool], Callable[[list[SupportRule], _Asked], str]]
_FIRST: tuple[_Condition, ...] = ((_of_versions, _say_versions), (_of_activations, _say_activations))
"""What makes it another format; where a rule of the same is for the hardware, the rest is asked of those alone."""
_THEN: tuple[_Condition, ...] = (
    (_of_models, _say_models),
    (_of_groups, _say_groups),
    (_of_methods, _say_methods),
    (_of_one_format, _say_one_format),
    (_of_cache, _say_cache),
    (_of_scales, _say_scales),
)


@cache
def _of_version(versions: str, version: str) -> bool:
    try:
        return not versions or SpecifierSet(versions).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True


def _what(asked: _Asked) -> str:
    """The format in a sentence, in the plural; weights with their activations."""
    word = _word(asked.name)
    if asked.axis == "weights":
        return f"{word} weights with {_word(asked.recipe.activations)} activations"
    return f"{word} keys and values" if asked.axis == "kv" else f"{word} products in attention"


def _word(name: str) -> str:
    info = lookup.format_info(name)
    return name.upper() if info is None or info.ggml is None or name in {"nvfp4", "mxfp4", "bf16"} else name


def _few(names: list[str]) -> str:
    shown = 12
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "") or "none"
