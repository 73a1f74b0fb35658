"""Reads the config.json of any Hugging Face decoder-only model into its shape. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fleetbench.catalog.config.families import REFUSED, UNKNOWN, Family, family_of
from fleetbench.catalog.config.feeds import Feed, feed, routed
from fleetbench.catalog.config.keys import LAYERS, TOKENS, Keys, shown
from fleetbench.catalog.config.layout import Slot, slots
from fleetbench.catalog.config.mixers import Part, head_channels, mixer, query_heads
from fleetbench.catalog.config.numbers import dtype, quantized
from fleetbench.catalog.shapes import Layer, ModelShape

_NESTED = ("thinker_config", "text_config", "llm_config", "language_config")
_OTHER_HEADS = ("ForMaskedLM", "Classification", "ForQuestionAnswering", "ForMultipleChoice", "ForPreTraining")
_STRETCHED = ("linear", "dynamic", "yarn")
_FACTOR = 1 << 16


class ConfigError(ValueError):
    """A config.json that lacks something or contradicts itself: every mistake at once, as clauses that name the key."""

    def __init__(self, clauses: tuple[str, ...]) -> None:
        super().__init__(clauses)
        self.clauses = clauses

    def __str__(self) -> str:
        return "; ".join(self.clauses)


def parse(raw: Mapping[str, Any]) -> ModelShape:
    """The shape that a config.json describes; parameters as the model's own code has them, to within its norms.

    Args:
        raw: the file's JSON object. Of a multimodal model, the text model that it nests is read, and the rest named
            in `uncounted`.

    Raises:
        ConfigError: every key that is missing, of the wrong type, out of bounds or at odds with another.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError((f"config.json is {shown(raw)}, not an object",))
    section, mistakes = _text_section(raw)
    keys = Keys(section, raw)
    for mistake in mistakes:
        keys.wrong(mistake)
    model_type, architecture = keys.text("model_type") or Keys(raw).text("model_type"), _architecture(keys, raw)
    family = family_of(model_type, architecture)
    keys.defaults = family.defaults if family else {}
    _refuse(keys, raw, model_type, architecture)
    shape = None if keys.mistakes else _shape(keys, family or UNKNOWN, architecture or model_type or "unknown", raw)
    if keys.mistakes or shape is None:
        raise ConfigError(tuple(keys.mistakes))
    return shape if family else replace(shape, guessed=True)


def _text_section(raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The object that describes the text model: the file's own, or one nested in it, at most twice."""
    section, mistakes = raw, []
    for _ in range(2):
        name = next((name for name in _NESTED if section.get(name) is not None), None)
        if name is None:
            break
        if not isinstance(section[name], Mapping):
            mistakes.append(f"{name} is {shown(section[name])}, not an object")
            break
        section = section[name]
    return section, mistakes


def _architecture(keys: Keys, raw: Mapping[str, Any]) -> str | None:
    """The first of `architectures`: of the text model, else of the whole."""
    names = keys.entries("architectures", str, None) or Keys(raw).entries("architectures", str, None)
    return names[0] if names else None


def _refuse(keys: Keys, raw: Mapping[str, Any], model_type: str | None, architecture: str | None) -> None:
    if model_type is not None and model_type in REFUSED:
        keys.wrong(f"model_type {shown(model_type)} {REFUSED[model_type]}")
    elif architecture is not None and any(word in architecture for word in _OTHER_HEADS):
        keys.wrong(f"architectures names {shown(architecture)}, which is no decoder-only language model")
    if raw.get("is_encoder_decoder") is True:
        keys.wrong("is_encoder_decoder is true: it is no decoder-only language model")


def _shape(keys: Keys, family: Family, architecture: str, raw: Mapping[str, Any]) -> ModelShape:
    """May be nonsense where `keys` noted a mistake."""
    hidden, vocab, context = keys.count("hidden_size"), keys.count("vocab_size"), _context_tok(keys)
    found = slots(keys, family)
    layers, width = _layers(keys, family, found, context)
    mixes = any(slot.feed == "sparse" for slot in found)
    experts, active = routed(keys) if mixes else (0, 0)
    embed = keys.count("embed_dim", keys.count("word_embed_proj_dim", hidden)) * vocab
    tied = _tied(keys, family)
    tables, projections = _per_layer_tables(keys, hidden, len(layers))
    positions = (
        0 if family.positions is None else (keys.count("max_position_embeddings", most=TOKENS) + family.positions)
    )
    form, part = quantized(keys)
    norm = _norm(family, hidden)
    final = norm * (int(family.final_norm) + int(family.embed_norm)) + projections + _streams(keys, hidden)[1]
    return ModelShape(
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        vocab_tok=vocab,
        max_context_tok=context,
        head_dim=_head_dim(keys, layers),
        ffn=width,
        embed_params=embed,
        head_params=0 if tied else embed,
        final_params=final + (vocab if keys.flag(family.head_bias) else 0),
        tied=tied,
        experts=experts,
        active_experts=active,
        dtype=dtype(keys),
        quantized=form,
        quantized_part=part,
        lookup_params=tables + positions * hidden,
        mtp_params=_mtp(keys, layers, hidden),
        uncounted=tuple(sorted(name for name in raw if _is_tower(name, raw[name])))[:8],
    )


def _layers(keys: Keys, family: Family, found: tuple[Slot, ...], context: int) -> tuple[tuple[Layer, ...], int]:
    """The layers, equal ones one object, and the widest feed-forward."""
    made: dict[Slot, Layer] = {}
    shared: dict[Layer, Layer] = {}
    widest = 0
    for slot in found:
        if slot not in made:
            fed = feed(keys, family, slot)
            widest = max(widest, fed.width)
            mixed = mixer(keys, family, slot)
            if mixed.window_tok is not None and mixed.window_tok >= context:  # it never slides
                mixed = replace(mixed, attention="full", window_tok=None)
            layer = _layer(keys, family, slot, mixed, fed)
            made[slot] = shared.setdefault(layer, layer)
    return tuple(made[slot] for slot in found), widest


def _layer(keys: Keys, family: Family, slot: Slot, mixed: Part, fed: Feed) -> Layer:
    norms = _norms(keys, family, slot) * _norm(family, keys.count("hidden_size"))
    linear, other = _per_layer_inputs(keys)
    other += _streams(keys, keys.count("hidden_size"))[0]
    return Layer(
        attention=mixed.attention,
        window_tok=mixed.window_tok,
        heads=mixed.heads,
        kv_heads=mixed.kv_heads,
        k_channels=mixed.k_channels,
        v_channels=mixed.v_channels,
        state_channels=mixed.state_channels,
        linear_params=mixed.linear + fed.linear + linear,
        active_params=mixed.linear + fed.active + linear,
        other_params=mixed.other + fed.other + norms + other,
        attention_params=mixed.linear,
        expert_params=fed.experts,
    )


def _norms(keys: Keys, family: Family, slot: Slot) -> int:
    """Norm vectors of a layer; Nemotron's searched blocks have none for what they dropped."""
    if slot.mixer == "none" or slot.feed == "none":
        return 0 if slot.mixer == slot.feed else 1
    if keys.flag(("new_decoder_architecture", False)):  # Falcon 40B
        return keys.count("num_ln_in_parallel_attn", 2)
    return 1 if keys.flag(family.parallel) else family.norms


def _norm(family: Family, hidden: int) -> int:
    return hidden * (2 if family.norm_bias else 1)


def _tied(keys: Keys, family: Family) -> bool:
    value = keys.outside("tie_word_embeddings")
    if value is None:
        return family.tied
    if not isinstance(value, bool):
        keys.wrong(f"tie_word_embeddings is {shown(value)}, neither true nor false")
    return value is True


def _head_dim(keys: Keys, layers: tuple[Layer, ...]) -> int:
    """Of attention; 1 for a model without any."""
    if keys.has("qk_nope_head_dim"):
        return keys.count("v_head_dim")
    if not any(layer.k_channels for layer in layers):
        return 1
    wide = head_channels(keys, query_heads(keys))
    return min(wide, keys.count("v_head_dim", wide))


def _context_tok(keys: Keys) -> int:
    """Positions the model was made for: what the file says, or the stretch of its scaling, whichever is more."""
    told = keys.count("max_position_embeddings", most=TOKENS)
    scaling = next(
        (found for name in ("rope_scaling", "rope_parameters") if (found := keys.find(name)[1]) is not None), None
    )
    if not isinstance(scaling, Mapping):
        return told
    kind = scaling.get("rope_type", scaling.get("type"))
    factor = scaling.get("factor")
    if kind not in _STRETCHED or isinstance(factor, bool) or not isinstance(factor, int | float):
        return told
    if not 1 <= factor <= _FACTOR:
        keys.wrong(f"rope_scaling.factor is {shown(factor)}, not from 1 to {_FACTOR}")
        return told
    within = Keys(scaling)
    before = within.count("original_max_position_embeddings", told, most=TOKENS)
    for mistake in within.mistakes:
        keys.wrong(f"rope_scaling.{mistake}")
    return min(TOKENS, max(told, int(before * factor)))


def _per_layer_tables(keys: Keys, hidden: int, count: int) -> tuple[int, int]:
    """Gemma's embeddings for each layer, looked up, and the projection beside them."""
    wide = keys.count("hidden_size_per_layer_input", 0, least=0)
    if not wide:
        return 0, 0
    table = keys.count("vocab_size_per_layer_input") * count * wide
    return table, hidden * count * wide + wide


def _per_layer_inputs(keys: Keys) -> tuple[int, int]:
    """Linear and other parameters of a layer that takes such an embedding in."""
    wide = keys.count("hidden_size_per_layer_input", 0, least=0)
    hidden = keys.count("hidden_size")
    return (2 * hidden * wide, hidden) if wide else (0, 0)


def _streams(keys: Keys, hidden: int) -> tuple[int, int]:
    """DeepSeek V4's hyper-connections: parameters of the two of a layer, and of the one after the last."""
    many = keys.count("hc_mult", 0, most=64, least=0)
    if not many:
        return 0, 0
    mixes = many * (many + 2)
    return 2 * (mixes * (many * hidden + 1) + 3), many * (many * hidden + 1) + 1


def _mtp(keys: Keys, layers: tuple[Layer, ...], hidden: int) -> int:
    """Each: one more layer like the last, a projection of two states to one, and three norms; tables are shared."""
    count = keys.count("num_nextn_predict_layers", 0, most=LAYERS, least=0)
    if not count or not layers:
        return 0
    attends = next((layer for layer in reversed(layers) if layer.k_channels), layers[-1])
    halves = [attends]
    if attends.linear_params == attends.attention_params:  # each layer is either a mixer or a feed-forward
        halves += [layer for layer in layers if not layer.attention_params][-1:]
    one = sum(layer.linear_params + layer.other_params for layer in halves)
    return count * (one + 2 * hidden * hidden + 3 * hidden)


def _is_tower(name: object, value: object) -> bool:
    """Whether a key holds the config of a part that is no text model."""
    words = ("vision", "audio", "visual", "talker", "speech", "code2wav", "image")
    return isinstance(name, str) and isinstance(value, Mapping) and name.endswith("_config") and name.startswith(words)
