"""The file types of llama.cpp that mix several tensor types: which tensor gets which, by its own rules, as tables.

The rules are those of its `src/llama-quant.cpp` for the architecture Llama, dense or with experts. Read at build
b11549, the one that xllamacpp 2026.10.11549 carries; checked against what its `llama-quantize` made (see the test).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import gguf
from gguf import GGMLQuantizationType as Kind
from gguf import LlamaFileType

SOURCE = "b11549"
"""The build of llama.cpp whose rules these are: part of the toolchain and so of an artifact's identity."""

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
_PARTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
_MANY_SHARE, _MIXTRAL, _LAYERS_70B = 4, 8, 80
_SMALL_BLOCK = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What the rules ask of a model and of how it is quantized.

    experts: 0 for a dense model. tied: it has no output matrix. weighed: an importance matrix is at hand.
    """

    layers: int
    heads: int
    kv_heads: int
    experts: int = 0
    tied: bool = False
    weighed: bool = False

    @property
    def shared(self) -> bool:
        """Whether at least four query heads share a value head, so that its matrix is small."""
        return self.heads // self.kv_heads >= _MANY_SHARE

    @property
    def mixtral(self) -> bool:
        return self.experts == _MIXTRAL

    @property
    def llama_70b(self) -> bool:
        return self.layers == _LAYERS_70B and self.heads != self.kv_heads and not self.mixtral


Where = Callable[[Network, int], bool]
Rule = tuple[Where, Kind]
"""The type of a tensor where the condition holds for its model and layer."""


def _always(_network: Network, _layer: int) -> bool:
    return True


def _shared(network: Network, _layer: int) -> bool:
    return network.shared


def _shared_or_experts(network: Network, _layer: int) -> bool:
    return network.shared or network.experts >= _MANY_SHARE


def _mixtral(network: Network, _layer: int) -> bool:
    return network.mixtral


def _dense(network: Network, _layer: int) -> bool:
    return not network.mixtral


def _unweighed(network: Network, _layer: int) -> bool:
    return not network.weighed


def _first_eighth(network: Network, layer: int) -> bool:
    return layer < network.layers // 8


def _unweighed_first_eighth(network: Network, layer: int) -> bool:
    return not network.weighed and _first_eighth(network, layer)


def _first_sixteenth(network: Network, layer: int) -> bool:
    return layer < network.layers // 16


def _first_two(_network: Network, layer: int) -> bool:
    return layer < 2  # noqa: PLR2004  the rule's own number


def _first_four(_network: Network, layer: int) -> bool:
    return layer < 4  # noqa: PLR2004  as above


def _middle(network: Network, layer: int) -> bool:
    return network.layers // 8 <= layer < 7 * network.layers // 8


def _sensitive(network: Network, layer: int) -> bool:
    """The first and last eighth, and every third layer between them."""
    eighth = network.layers // 8
    return layer < eighth or layer >= 7 * network.layers // 8 or (layer - eighth) % 3 == 2  # noqa: PLR2004  as above


def _early_or_mixtral(network: Network, layer: int) -> bool:
    return _first_eighth(network, layer) or (network.mixtral and _sensitive(network, layer))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A file type: `plain` for every matrix, save where `rules` says otherwise; a part's first rule that holds counts.

    embedding: type of the token embedding where the output has a matrix of its own. output: type of the output.
    tiny: of the family below three bits, which treats value and key matrices in its own way.
    needs_matrix: types that come out as garbage without an importance matrix.
    """

    file_type: LlamaFileType
    plain: Kind
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    embedding: Kind | None = None
    output: Kind = Kind.Q6_K
    tiny: bool = False
    needs_matrix: frozenset[Kind] = frozenset(
        {Kind.IQ1_S, Kind.IQ1_M, Kind.IQ2_XXS, Kind.IQ2_XS, Kind.IQ2_S, Kind.IQ3_XXS}
    )


def _tiny(
    file_type: LlamaFileType, plain: Kind, better: Kind, attention_output: Kind | None, embedding: Kind
) -> Mixture:
    """One of the family below three bits; `better` is its type for values and for early ffn_down."""
    softer = ((_always, attention_output),) if attention_output else ()
    return Mixture(
        file_type=file_type,
        plain=plain,
        rules={
            "attn_v": ((_shared_or_experts, Kind.Q4_K), (_always, better)),
            "attn_k": ((_mixtral, Kind.Q4_K),),
            "attn_output": ((_mixtral, Kind.Q5_K), *softer),
            "ffn_down": ((_first_eighth, better),),
        },
        embedding=embedding,
        output=Kind.Q5_K,
        tiny=True,
    )


_OUTPUT_OF_MIXTRAL: Rule = (_mixtral, Kind.Q5_K)

MIXTURES: Mapping[str, Mixture] = {
    "q5_k_m": Mixture(
        file_type=LlamaFileType.MOSTLY_Q5_K_M,
        plain=Kind.Q5_K,
        rules={"attn_v": ((_sensitive, Kind.Q6_K),), "ffn_down": ((_sensitive, Kind.Q6_K),)},
    ),
    "q5_k_s": Mixture(file_type=LlamaFileType.MOSTLY_Q5_K_S, plain=Kind.Q5_K),
    "q4_k_m": Mixture(
        file_type=LlamaFileType.MOSTLY_Q4_K_M,
        plain=Kind.Q4_K,
        rules={
            "attn_v": ((_sensitive, Kind.Q6_K),),
            "attn_output": (_OUTPUT_OF_MIXTRAL,),
            "ffn_down": ((_sensitive, Kind.Q6_K),),
        },
    ),
    "q4_k_s": Mixture(
        file_type=LlamaFileType.MOSTLY_Q4_K_S,
        plain=Kind.Q4_K,
        rules={
            "attn_v": ((_first_four, Kind.Q5_K),),
            "attn_output": (_OUTPUT_OF_MIXTRAL,),
            "ffn_down": ((_first_eighth, Kind.Q5_K),),
        },
    ),
    "q3_k_l": Mixture(
        file_type=LlamaFileType.MOSTLY_Q3_K_L,
        plain=Kind.Q3_K,
        rules={
            "attn_v": ((_always, Kind.Q5_K),),
            "attn_output": ((_dense, Kind.Q5_K),),
            "ffn_down": ((_always, Kind.Q5_K),),
        },
    ),
    "q3_k_m": Mixture(
        file_type=LlamaFileType.MOSTLY_Q3_K_M,
        plain=Kind.Q3_K,
        rules={
            "attn_v": ((_first_two, Kind.Q5_K), (_always, Kind.Q4_K)),
            "attn_output": (_OUTPUT_OF_MIXTRAL, (_always, Kind.Q4_K)),
            "ffn_down": ((_first_sixteenth, Kind.Q5_K), (_always, Kind.Q4_K)),
        },
    ),
    "q3_k_s": Mixture(
        file_type=LlamaFileType.MOSTLY_Q3_K_S, plain=Kind.Q3_K, rules={"attn_output": (_OUTPUT_OF_MIXTRAL,)}
    ),
    "q2_k_m": Mixture(
        file_type=LlamaFileType.MOSTLY_Q2_K,
        plain=Kind.Q2_K,
        rules={
            "attn_v": ((_shared, Kind.Q4_K), (_always, Kind.Q3_K)),
            "attn_output": (_OUTPUT_OF_MIXTRAL, (_always, Kind.Q3_K)),
            "ffn_down": ((_always, Kind.Q3_K),),
        },
    ),
    "q2_k_s": Mixture(
        file_type=LlamaFileType.MOSTLY_Q2_K_S,
        plain=Kind.Q2_K,
        rules={"attn_v": ((_shared, Kind.Q4_K),), "ffn_down": ((_first_eighth, Kind.Q4_K),)},
        needs_matrix=frozenset({Kind.Q2_K}),
    ),
    "iq3_m": Mixture(
        file_type=LlamaFileType.MOSTLY_IQ3_M,
        plain=Kind.IQ3_S,
        rules={
            "attn_v": ((_always, Kind.Q4_K),),
            "attn_output": (_OUTPUT_OF_MIXTRAL, (_always, Kind.Q4_K)),
            "ffn_down": ((_early_or_mixtral, Kind.Q4_K),),
        },
    ),
    "iq3_s": Mixture(
        file_type=LlamaFileType.MOSTLY_IQ3_S,
        plain=Kind.IQ3_S,
        rules={"attn_v": ((_shared, Kind.Q4_K),), "attn_output": (_OUTPUT_OF_MIXTRAL,)},
    ),
    "iq3_xs": Mixture(
        file_type=LlamaFileType.MOSTLY_IQ3_XS,
        plain=Kind.IQ3_S,
        rules={
            "attn_q": ((_always, Kind.IQ3_XXS),),
            "attn_k": ((_always, Kind.IQ3_XXS),),
            "attn_v": ((_shared, Kind.Q4_K),),
            "attn_output": (_OUTPUT_OF_MIXTRAL,),
            "ffn_gate": ((_middle, Kind.IQ3_XXS),),
            "ffn_up": ((_middle, Kind.IQ3_XXS),),
        },
    ),
    "iq3_xxs": Mixture(
        file_type=LlamaFileType.MOSTLY_IQ3_XXS,
        plain=Kind.IQ3_XXS,
        rules={
            "attn_q": ((_always, Kind.IQ2_S),),
            "attn_k": ((_always, Kind.IQ2_S),),
            "attn_v": ((_shared, Kind.Q4_K), (_unweighed, Kind.IQ3_S)),
            "attn_output": (_OUTPUT_OF_MIXTRAL, (_always, Kind.IQ3_S)),
            "ffn_down": ((_unweighed_first_eighth, Kind.Q4_K), (_unweighed, Kind.Q3_K)),
        },
        embedding=Kind.IQ3_S,
        output=Kind.Q5_K,
    ),
    "iq2_m": _tiny(LlamaFileType.MOSTLY_IQ2_M, Kind.IQ2_S, Kind.IQ3_S, Kind.IQ3_S, Kind.IQ3_S),
    "iq2_s": _tiny(LlamaFileType.MOSTLY_IQ2_S, Kind.IQ2_XS, Kind.IQ3_S, Kind.IQ3_S, Kind.IQ3_S),
    "iq2_xs": _tiny(LlamaFileType.MOSTLY_IQ2_XS, Kind.IQ2_XS, Kind.Q2_K, None, Kind.Q2_K),
    "iq2_xxs": _tiny(LlamaFileType.MOSTLY_IQ2_XXS, Kind.IQ2_XXS, Kind.Q2_K, None, Kind.Q2_K),
    "iq1_m": _tiny(LlamaFileType.MOSTLY_IQ1_M, Kind.IQ1_M, Kind.Q2_K, Kind.IQ2_XXS, Kind.Q2_K),
    "iq1_s": _tiny(LlamaFileType.MOSTLY_IQ1_S, Kind.IQ1_S, Kind.Q2_K, Kind.IQ2_XXS, Kind.Q2_K),
}
"""By the name that a recipe gives it. `q2_k_m` is llama.cpp's Q2_K, medium: the bare `q2_k` is uniform here."""

NEED_MATRIX = frozenset(
    name
    for name, mixture in MIXTURES.items()
    if mixture.needs_matrix & {mixture.plain, *(kind for rules in mixture.rules.values() for _, kind in rules)}
)
"""Mixtures that are not made without an importance matrix."""

_FALLBACKS = {
    # Where 256 does not divide a row: a type of blocks of 32.
    Kind.IQ1_S: Kind.IQ4_NL,
    Kind.IQ1_M: Kind.IQ4_NL,
    Kind.IQ2_XXS: Kind.IQ4_NL,
    Kind.IQ2_XS: Kind.IQ4_NL,
    Kind.IQ2_S: Kind.IQ4_NL,
    Kind.IQ3_XXS: Kind.IQ4_NL,
    Kind.IQ3_S: Kind.IQ4_NL,
    Kind.Q2_K: Kind.Q4_0,
    Kind.Q3_K: Kind.Q4_0,
    Kind.Q4_K: Kind.Q5_0,
    Kind.Q5_K: Kind.Q5_1,
    Kind.Q6_K: Kind.Q8_0,
    Kind.Q8_0: Kind.Q8_0,
}


def type_of(mixture: Mixture, network: Network, name: str, row: int) -> Kind:
    """The type of a matrix.

    Args:
        mixture: one of `MIXTURES`.
        network: the model.
        name: GGUF's name of the tensor, which ends in `.weight`.
        row: its row length in elements.
    """
    if name == OUTPUT or (name == EMBEDDING and network.tied):
        fits = row % gguf.GGML_QUANT_SIZES[mixture.plain][0] == 0
        return _fitting(mixture.output if fits else Kind.Q8_0, row)
    if name == EMBEDDING:
        return _fitting(mixture.embedding or mixture.plain, row)
    layer, part = _place(name)
    return _fitting(_by_rules(mixture, network, part, layer), row)


def needs_matrix(mixture: Mixture, name: str, kind: Kind) -> bool:
    """Whether the tensor, which gets the type `kind`, is garbage without an importance matrix."""
    return name not in (EMBEDDING, OUTPUT) and kind in mixture.needs_matrix


def _by_rules(mixture: Mixture, network: Network, part: str, layer: int) -> Kind:
    if network.mixtral and not mixture.tiny and part in ("attn_v", "attn_k"):
        return Kind.Q8_0
    rules = mixture.rules.get(part, ())
    kind = next((kind for holds, kind in rules if holds(network, layer)), mixture.plain)
    if network.llama_70b and not mixture.tiny and part == "attn_v" and kind in (Kind.Q3_K, Kind.Q4_K):
        return Kind.Q5_K
    return kind


def _place(name: str) -> tuple[int, str]:
    """Layer and part; the parts of experts (`ffn_down_exps`) go as those of a dense layer."""
    _, layer, rest, _ = name.split(".")
    return int(layer), next((part for part in _PARTS if rest.startswith(part)), rest)


def _fitting(kind: Kind, row: int) -> Kind:
    """The type, or where its block does not divide a row the one that llama.cpp falls back to."""
    if row % gguf.GGML_QUANT_SIZES[kind][0] == 0:
        return kind
    return _FALLBACKS[kind] if row % _SMALL_BLOCK == 0 else Kind.F16
