"""In which number format a checkpoint is published, by config.json. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fleetbench.catalog.config.keys import Keys, shown
from fleetbench.catalog.shapes import QuantizedPart

USUAL = "bf16"
_DTYPES = {
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32",
    "float8_e4m3fn": "fp8", "float8_e4m3fnuz": "fp8", "float8_e5m2": "fp8_e5m2",
}  # fmt: skip
_METHODS = {
    # Methods whose name says the format; formats as the catalog spells them.
    "fp8": "fp8", "fbgemm_fp8": "fp8", "finegrained_fp8": "fp8", "ptpc_fp8": "fp8",
    "mxfp4": "mxfp4", "gpt_oss_mxfp4": "mxfp4", "mxfp8": "mxfp8", "nvfp4": "nvfp4",
    "eetq": "int8", "bitnet": "ternary", "exl2": "exl2", "exl3": "exl3", "gguf": "gguf",
}  # fmt: skip
_ALGORITHMS = (
    # Words of ModelOpt's algorithms and of compressed-tensors' formats, the most telling first.
    ("NVFP4", "nvfp4"), ("MXFP4", "mxfp4"), ("MXFP8", "mxfp8"), ("W4A8", "int4"), ("W4A16", "int4"), ("INT4", "int4"),
    ("INT8", "int8"), ("W8A8_SQ", "int8"), ("FP8", "fp8"),
)  # fmt: skip
_NARROW = ("ternary", "int2", "int3", "mxfp4", "nvfp4", "int4", "nf4", "fp4", "int8", "fp8", "mxfp8")
_BITS = ("bits", "w_bit", "nbits", "weight_bits", "num_bits")
_KEPT = ("ignore", "modules_to_not_convert", "ignored_layers", "exclude_modules", "exclude", "exclude_layers")
_TORCHAO = ("quant_type", "quant_type.default", "quant_type.default._type")
_MX_GROUP = 32
_MOST_BITS = 8


def dtype(keys: Keys) -> str:
    """Of what is not quantized; bf16, the usual one, where the file does not say."""
    for name in ("dtype", "torch_dtype"):
        value = keys.outside(name)
        if value is None:
            continue
        plain = value.removeprefix("torch.") if isinstance(value, str) else None
        if plain not in _DTYPES and plain != "auto":
            keys.wrong(f"{name} is {shown(value)}, none of {', '.join(_DTYPES)}")
        return _DTYPES.get(plain or "", USUAL)
    return USUAL


def quantized(keys: Keys) -> tuple[str | None, QuantizedPart]:
    """The format that the checkpoint's weights are quantized to, of several the narrowest, and which of them are.

    None where they are not. A method that says neither its format nor its bits stands for itself.
    """
    for name in ("quantization_config", "compression_config"):
        raw = keys.outside(name)
        if raw is None:
            continue
        if not isinstance(raw, Mapping):
            keys.wrong(f"{name} is {shown(raw)}, not an object")
            return None, "linear"
        inner = Keys(raw)
        found = _format(inner)
        for mistake in inner.mistakes:
            keys.wrong(f"{name}.{mistake}")
        if keys.outside("expert_dtype") == "fp4":  # DeepSeek V4
            found = _narrowest((found, "mxfp4"))
        return found, _part(raw)
    return None, "linear"


def _format(inner: Keys) -> str | None:
    grouped = _narrowest((*_groups(inner), *_algorithms(inner)))
    if grouped is not None:
        return grouped
    method = (inner.text("quant_method") or "").casefold()
    if method in _METHODS:
        return _METHODS[method]
    if method.startswith(("compressed", "modelopt")):  # neither a group nor an algorithm: at most pruned
        return None
    for word, read in _READERS.items():
        if method.startswith(word):
            return read(inner)
    bits = next((name for name in _BITS if inner.has(name)), None)
    if bits is not None:
        return f"int{inner.count(bits, most=_MOST_BITS)}"
    if not method:
        inner.wrong("quant_method is missing")
    return method or None


def _groups(inner: Keys) -> Iterable[str | None]:
    """Of compressed-tensors and ModelOpt: the weights of each group."""
    groups = inner.find("config_groups")[1]
    if groups is not None and not isinstance(groups, Mapping):
        inner.wrong(f"config_groups is {shown(groups)}, not an object")
    packed = (inner.text("format") or "").upper()
    for name, group in groups.items() if isinstance(groups, Mapping) else ():
        weights = Keys(group if isinstance(group, Mapping) else {})
        if not weights.has("weights"):
            continue
        bits = weights.count("weights.num_bits", most=16)
        for mistake in weights.mistakes:
            inner.wrong(f"config_groups.{shown(name)}.{mistake}")
        yield _by_bits(bits, weights, packed)


def _by_bits(bits: int, weights: Keys, packed: str) -> str | None:
    if (weights.text("weights.type") or "int") == "int":
        return f"int{bits}"
    if bits == 4:  # noqa: PLR2004
        small = "MXFP4" in packed or weights.find("weights.group_size")[1] == _MX_GROUP
        return "mxfp4" if small else "nvfp4"
    return {8: "fp8", 16: None}.get(bits, f"fp{bits}")


def _algorithms(inner: Keys) -> Iterable[str | None]:
    """Of ModelOpt: one algorithm for all, for the experts, or for each layer."""
    layers = inner.find("quantized_layers")[1]
    told = [inner.find(name)[1] for name in ("quant_algo", "moe_quant_algo")]
    told += (
        [layer.get("quant_algo") for layer in layers.values() if isinstance(layer, Mapping)]
        if isinstance(layers, Mapping)
        else []
    )
    for word in {word.upper() for word in told if isinstance(word, str)}:
        yield next((name for part, name in _ALGORITHMS if part in word), None)


def _narrowest(names: Iterable[str | None]) -> str | None:
    found = {name for name in names if name is not None}
    return min(found, key=lambda name: (_NARROW.index(name) if name in _NARROW else len(_NARROW), name), default=None)


def _bitsandbytes(inner: Keys) -> str | None:
    if inner.flag(("load_in_8bit", False)):
        return "int8"
    if inner.flag(("load_in_4bit", False)):
        return inner.text("bnb_4bit_quant_type") or "fp4"
    return None


def _quark(inner: Keys) -> str | None:
    told = inner.find("global_quant_config.weight.dtype")[1]
    word = told.casefold() if isinstance(told, str) else ""
    known = {"fp4": "mxfp4", "uint4": "int4", "uint8": "int8"}
    return known.get(word) or next((name for name in ("fp8", "int8", "int4") if word.startswith(name)), word or None)


def _torchao(inner: Keys) -> str | None:
    told = next((found for path in _TORCHAO if isinstance(found := inner.find(path)[1], str)), "").casefold()
    names = ("int4", "int8", "nvfp4", "mxfp4")
    return next((name for name in names if name in told), "fp8" if "float8" in told else None)


_READERS: Mapping[str, Callable[[Keys], str | None]] = {
    "bitsandbytes": _bitsandbytes,
    "quark": _quark,
    "torchao": _torchao,
}


def _part(raw: Mapping[str, Any]) -> QuantizedPart:
    """What the lists of kept modules leave: all linear layers, all but the attention, or only the routed experts."""
    kept: set[str] = set()
    for name in _KEPT:
        found = raw.get(name)
        kept |= {item.rstrip("*.") for item in found if isinstance(item, str)} if isinstance(found, list) else set()
    if not any(item.endswith(("self_attn", "attn")) for item in kept):
        return "linear"
    return "experts" if any(_is_dense(item) for item in kept) else "ffn"


def _is_dense(module: str) -> bool:
    """Whether the pattern names a feed-forward that is no routed expert: `.mlp`, its matrices, or shared experts."""
    return module.endswith(".mlp") or "shared_expert" in module or "(gate|up|" in module
