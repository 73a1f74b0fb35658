"""What vLLM says of itself, in its log and its endpoints, read into plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fleetbench.catalog.config.keys import Keys
from fleetbench.catalog.config.numbers import quantized
from fleetbench.engine import sixteen
from fleetbench.engine.vllm_model import Structure, structure

UNSAID = frozenset({"int4", "int8", "int3", "int2"})
"""Weights that vLLM multiplies by one scheme for every width, where activations have 16 bits."""
EMULATING = frozenset({"marlin", "humming", "emulation"})
"""Kernels that read narrow weights and multiply in 16 bits, whatever format the activations were to have."""

CONFIG = re.compile(r"Initializing a V1 LLM engine \(v[^)]*\) with config: (.*)")
SPECULATION = re.compile(r"speculative_config=SpeculativeConfig\(method='(\w+)'.*?num_spec_tokens=(\d+)")
ARGUMENTS = re.compile(r"non-default args: \{.*'max_num_seqs': (\d+)")
QUANTIZING = re.compile(r"Quantizing (\d+) layers of types")
KERNEL = re.compile(r"\b(?:Using|Selected) (\w+Kernel) for (?:(\w*(?:Tensors|Method|Scheme|Quark)\w*)$)?", re.MULTILINE)
BACKEND = re.compile(r"Using (?:AttentionBackendEnum\.)?([A-Z][A-Z0-9_]+) (?:attention )?backend\b")
ROOM = re.compile(r"KV cache size: ([\d,]+) tokens")
LABELS = re.compile(r"^vllm:cache_config_info\{(.*)\} ", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

SCHEMES: tuple[tuple[re.Pattern[str], str | None, str | None], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), weights, activations)
    for pattern, weights, activations in (
        ("w4a8mxfp4", "mxfp4", "fp8"),
        ("mxfp8", "mxfp8", "mxfp8"),
        ("mxfp4", "mxfp4", "mxfp4"),
        ("nvfp4|w4a4fp4|w4a4_fp4", "nvfp4", "nvfp4"),
        ("w4a8fp8", "int4", "fp8"),
        ("w4a8int", "int4", "int8"),
        ("w8a16fp8", "fp8", None),
        ("w8a8int8|w8a8_int8", "int8", "int8"),
        ("w8a8fp8|w8a8_fp8|fp8", "fp8", "fp8"),
        ("awq", "int4", None),
    )
)
"""Weights and activations by the name of a scheme or method, the first that fits; None is 16 bits, or left unsaid."""

FAMILIES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        (r"^Marlin", "marlin"),
        (r"^Machete", "machete"),
        (r"^Humming", "humming"),
        (r"^Emulation", "emulation"),
        (r"^Exllama", "exllama"),
        (r"^CutlassW4A8", "cutlass-w4a8"),
        (r"^CPUWNA16", "cpu"),
        (r"^FlashInfer.*W4A16", "flashinfer"),
        (r"Int8ScaledMM", "int8"),
        (r"NvFp4", "nvfp4"),
        (r"MxFp4|Mxfp4", "mxfp4"),
        (r"MxFp8|Mxfp8", "mxfp8"),
        (r"(?i)fp8", "fp8"),
        (r"^XPU", "xpu"),
    )
)
"""Words of the catalog for the kernels that vLLM names, the first that fits; else the first word of the name."""
WORD = re.compile(r"[A-Z][a-z0-9]+|[A-Z]+(?![a-z])")

ATTENTION: Mapping[str, str] = {
    # The backend by the class that computes it.
    "FlashAttentionImpl": "flash_attn",
    "FlashInferImpl": "flashinfer",
    "TritonAttentionImpl": "triton_attn",
    "FlexAttentionImpl": "flex_attention",
    "CPUAttentionBackendImpl": "cpu_attn",
}
CACHES: Mapping[str, str] = {
    "fp8": "fp8",
    "fp8_e4m3": "fp8",
    "fp8_inc": "fp8",
    "fp8_per_token_head": "fp8",
    "int8_per_token_head": "int8",
    "int4_per_token_head": "int4",
}


def effective(log: str, answers: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The configuration that runs; what the engine does not say is None.

    Args:
        log: its log from the start.
        answers: of `/version`, `/v1/models` and `/metrics`, and `config.json` of the folder that it loaded: where the
            log names a scheme for integers of any width (CompressedTensorsWNA16), `weights` is the checkpoint's word,
            which the engine loaded, not its own.
        version: of the package, which says more than the endpoint does (0.32.0+cpu).
    """
    log = "\n".join(log.splitlines())  # it ends lines within a message by CR and LF
    found = CONFIG.search(log)
    config = found[1] if found else ""
    cache = _cache_labels(answers.get("/metrics"))
    dtype = sixteen.of_torch(_field(config, "dtype") or "")
    built = structure(log)
    kv = _kv(_field(config, "kv_cache_dtype") or cache.get("cache_dtype"), dtype)
    speculation = SPECULATION.search(config)
    dp = _whole(_field(config, "data_parallel_size"))
    slots = ARGUMENTS.search(log)
    room = ROOM.search(log)
    return {
        "version": _version(answers.get("/version"), version),
        **_numbers(log, config, dtype, built, _integers(answers.get("config.json"))),
        "kv_k": kv,
        "kv_v": kv,
        "kv_dtype": _field(config, "kv_cache_dtype"),
        "kv_tok": int(room[1].replace(",", "")) if room else _whole(cache.get("kv_cache_size_tokens")),
        "context_tok": _context(answers.get("/v1/models")),
        "slots": int(slots[1]) * (dp or 1) if slots else None,
        "tp": _whole(_field(config, "tensor_parallel_size")),
        "pp": _whole(_field(config, "pipeline_parallel_size")),
        "dp": dp,
        "prefix_caching": _flag(_field(config, "enable_prefix_caching") or cache.get("enable_prefix_caching")),
        "chunked_prefill": _flag(_field(config, "enable_chunked_prefill")),
        "enforce_eager": _flag(_field(config, "enforce_eager")),
        "dummy": None if not config else _field(config, "load_format") == "dummy",
        "seed": _whole(_field(config, "seed")),
        "attention_kernel": _attention(log, built),
        "draft": _draft(speculation[1]) if speculation else None,
        "draft_tok": int(speculation[2]) if speculation else None,
        "lora": _lora(answers.get("/v1/models")),
    }


def _numbers(log: str, config: str, dtype: str | None, built: Structure | None, integers: str | None) -> dict[str, Any]:
    """What is multiplied in which format, by which kernels, and how many layers that holds for."""
    named = KERNEL.findall(log)
    schemes = built.schemes if built else tuple(dict.fromkeys(scheme for _, scheme in named if scheme))
    counted = QUANTIZING.search(log)
    quantized = built.quantized if built else (int(counted[1]) if counted else None)
    if quantized is None and _field(config, "quantization") == "None":
        quantized = 0
    narrow = bool(quantized) if quantized is not None else (True if schemes else None)
    kernels = tuple(dict.fromkeys(name for name, _ in named))
    families = tuple(dict.fromkeys(_family(name, _field(config, "device_config")) for name in kernels))
    weights, activations = _formats(schemes, dtype, integers) if narrow else (dtype, dtype)
    if narrow and "marlin" in families:
        activations = dtype
    return {
        "weights": weights if narrow is not None else None,
        "activations": activations if narrow is not None else None,
        "quantized": narrow,
        "quantized_layers": quantized,
        "layers": built.layers if built else None,
        "quantization": _field(config, "quantization"),
        "scheme": "+".join(schemes) or None,
        "gemm_kernel": ("+".join(families) or None) if narrow else _plain_kernel(dtype, narrow),
        "gemm_kernel_class": "+".join(kernels) or None,
    }


def _formats(schemes: tuple[str, ...], dtype: str | None, integers: str | None) -> tuple[str | None, str | None]:
    """The formats of weights and activations that schemes stand for; several are joined by plus, one unsaid is None.

    integers: what the checkpoint says of weights, which holds where a scheme leaves their format unsaid.
    """
    found = [next((row[1:] for row in SCHEMES if row[0].search(scheme)), (integers, None)) for scheme in schemes]
    weights = list(dict.fromkeys(weights for weights, _ in found))
    activations = list(dict.fromkeys(activations or dtype for _, activations in found))
    return (
        "+".join(name for name in weights if name) if weights and None not in weights else None,
        "+".join(name for name in activations if name) if activations and None not in activations else None,
    )


def _integers(config: Any) -> str | None:
    """`int4` where a config.json says that its weights are integers of 4 bits; of several widths the narrowest."""
    keys = Keys(config if isinstance(config, dict) else {})
    form, _ = quantized(keys)
    return form if form is not None and form.startswith("int") and not keys.mistakes else None


def _family(kernel: str, device: str | None) -> str:
    if device == "cpu" and "Torch" in kernel:
        return "torch"  # a CPU has no units for FP8: PyTorch widens it
    named = next((family for pattern, family in FAMILIES if pattern.search(kernel)), None)
    first = WORD.match(kernel)
    return named or (first[0].lower() if first else kernel.lower())


def _plain_kernel(dtype: str | None, narrow: bool | None) -> str | None:  # noqa: FBT001  None is a third answer
    if narrow is not False or dtype is None:
        return None
    return "gemm32" if dtype == "fp32" else "gemm16"


def _attention(log: str, built: Structure | None) -> str | None:
    """As the choice was logged (on a GPU); else by the class that computes it, which the model's structure tells."""
    chosen = dict.fromkeys(name.lower() for name in BACKEND.findall(log))
    if not chosen and built:
        chosen = dict.fromkeys(ATTENTION.get(name, name) for name in built.attention)
    return "+".join(chosen) or None


def _field(config: str, name: str) -> str | None:
    found = re.search(rf"(?:^|[ (,]){name}=([^,()]*)", config)
    return found[1] if found else None


def _cache_labels(metrics: Any) -> dict[str, str]:
    found = LABELS.search(metrics) if isinstance(metrics, str) else None
    return dict(LABEL.findall(found[1])) if found else {}


def _kv(stored: str | None, dtype: str | None) -> str | None:
    if stored is None or stored == "auto":
        return dtype if stored else None
    return CACHES.get(stored) or sixteen.of_torch(stored) or stored


def _draft(method: str) -> str:
    if method.endswith("mtp"):
        return "mtp"
    return "model" if method == "draft_model" else method


def _version(answer: Any, package: str) -> str | None:
    """The package's, unless the server says that it is another."""
    told = answer.get("version") if isinstance(answer, dict) else None
    if not isinstance(told, str):
        return package or None
    return package if package.partition("+")[0] == told else told


def _models(answer: Any) -> list[Any]:
    data = answer.get("data") if isinstance(answer, dict) else None
    return [model for model in data if isinstance(model, dict)] if isinstance(data, list) else []


def _context(answer: Any) -> int | None:
    found = [model["max_model_len"] for model in _models(answer) if isinstance(model.get("max_model_len"), int)]
    return min(found, default=None)


def _lora(answer: Any) -> list[str] | None:
    """Names of the adapters that are served beside the base, sorted."""
    return sorted(str(model.get("id")) for model in _models(answer) if model.get("parent")) or None


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _flag(text: str | None) -> bool | None:
    return {"True": True, "False": False}.get(text or "")
