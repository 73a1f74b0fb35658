"""What SGLang says of itself, in its log and its endpoints, read into plain values. By its sources; never run here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fleetbench.engine import sixteen
from fleetbench.engine.protocol import ColdStart, Sign

LOADED = re.compile(r"Load weight end\. elapsed=([\d.]+) s, type=\w+,(?P<quant>[^\n]*?) avail mem=")
QUANT = re.compile(r"quant=([\w.-]+)")
BITS = re.compile(r"bits=(\d+)")
ROUNDED = re.compile(r"Online [\w-]+ quantization: quantized (\d+) layers of types")
CACHE = re.compile(r"KV Cache (?:is allocated|VA upper bound)\. dtype: torch\.(\w+), #tokens: (\d+)")
SCHEDULER = re.compile(r"max_total_num_tokens=(\d+), .*?max_running_requests=(\d+), context_len=(\d+)")
CAPTURED = re.compile(r"Capture [^\n]*?CUDA graph end\. elapsed=([\d.]+) s", re.IGNORECASE)
"""Sources in 0.5.23, in srt: model_executor/model_runner.py (weights), mem_cache/memory_pool.py (cache),
managers/scheduler.py (requests and context), model_runner_components/load_model_utils.py and cuda_graph_setup.py."""

CACHES: Mapping[str, str] = {
    "float8_e4m3fn": "fp8",
    "float8_e4m3fnuz": "fp8",
    "fp8_e4m3": "fp8",
    "float8_e5m2": "fp8_e5m2",
    "float8_e5m2fnuz": "fp8_e5m2",
}
METHODS: Mapping[str, str] = {
    "fp8": "fp8",
    "w8a8_fp8": "fp8",
    "modelopt_fp8": "fp8",
    "w8a8_int8": "int8",
    "mxfp8": "mxfp8",
    "mxfp4": "mxfp4",
    "nvfp4_online": "nvfp4",
    "modelopt_fp4": "nvfp4",
    "awq": "int4",
    "awq_marlin": "int4",
}
"""Weights by the name of a quantization method, where it stands for one format."""


def effective(log: str, answers: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The configuration that runs; what the engine does not say is None.

    Args:
        log: its log from the start.
        answers: of `/server_info`, `/model_info` and `/v1/models`.
        version: of the package.
    """
    told = answers.get("/server_info")
    info = told if isinstance(told, dict) else {}
    cache, scheduler = CACHE.search(log), SCHEDULER.search(log)
    dtype = _dtype(info, cache[1] if cache else None)
    kv = _kv(cache[1] if cache else None, info.get("kv_cache_dtype"), dtype)
    dp = _whole(info.get("dp_size"))
    return {
        "version": info.get("version") or version or None,
        **_numbers(log, info, dtype),
        "kv_k": kv,
        "kv_v": kv,
        "kv_dtype": info.get("kv_cache_dtype"),
        "kv_tok": int(scheduler[1]) if scheduler else _whole(info.get("max_total_num_tokens")),
        "context_tok": int(scheduler[3]) if scheduler else _context(answers.get("/v1/models"), info),
        "slots": int(scheduler[2]) if scheduler else _whole(info.get("max_running_requests")),
        "tp": _whole(info.get("tp_size")),
        "pp": _whole(info.get("pp_size")),
        "dp": dp,
        "prefix_caching": not info["disable_radix_cache"]
        if isinstance(info.get("disable_radix_cache"), bool)
        else None,
        "dummy": info["load_format"] == "dummy" if isinstance(info.get("load_format"), str) else None,
        "seed": _whole(info.get("random_seed")),
        "attention_kernel": info.get("attention_backend"),
        "gemm_kernel": None,
    }


def _numbers(log: str, info: Mapping[str, Any], dtype: str | None) -> dict[str, Any]:
    """What is quantized: as the log says of the checkpoint and of what was rounded, else as the server was told."""
    loaded = LOADED.search(log)
    said = QUANT.search(loaded["quant"]) if loaded else None
    method = said[1] if said else info.get("quantization")
    rounded = ROUNDED.search(log)
    if rounded is not None and int(rounded[1]) == 0:
        method = None
    known = bool(loaded or info)
    bits = BITS.search(loaded["quant"]) if loaded else None
    weights = METHODS.get(method) or (f"int{bits[1]}" if bits else None) if isinstance(method, str) else dtype
    return {
        "weights": weights if known else None,
        "activations": dtype if known and method is None else None,
        "quantized": method is not None if known else None,
        "quantized_layers": int(rounded[1]) if rounded else None,
        "quantization": method,
    }


def _dtype(info: Mapping[str, Any], cache: str | None) -> str | None:
    """The model's 16 bits: as the server was told, or as its cache has them, which follows the model."""
    given = info.get("dtype")
    named = sixteen.of_torch(given) if isinstance(given, str) else None
    return named or (sixteen.of_torch(cache) if cache else None)


def _kv(allocated: str | None, told: Any, dtype: str | None) -> str | None:
    if allocated is not None and (found := CACHES.get(allocated) or sixteen.of_torch(allocated)):
        return found
    if not isinstance(told, str):
        return None
    return dtype if told == "auto" else CACHES.get(told) or sixteen.of_torch(told) or sixteen.common(told)


def _context(models: Any, info: Mapping[str, Any]) -> int | None:
    data = models.get("data") if isinstance(models, dict) else None
    found = [model.get("max_model_len") for model in data if isinstance(model, dict)] if isinstance(data, list) else []
    told = [value for value in (*found, info.get("context_length")) if isinstance(value, int)]
    return told[0] if told else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def cold(log: str) -> ColdStart:
    """Phases of a start, seconds: loading as a whole, of the slowest worker, and the capture of graphs."""
    loads = [float(found[1]) for found in LOADED.finditer(log)]
    captures = [float(found) for found in CAPTURED.findall(log)]
    return ColdStart(load_s=max(loads, default=None), compile_s=sum(captures) if captures else None)


SIGNS: tuple[Sign, ...] = (
    Sign(
        cause="port",
        pattern=r"at \d+ is not available|Port is already in use",
        words="its port is taken or not allowed",
    ),
    Sign(
        cause="arguments",
        pattern=r"launch_server\.py: error: |is greater than the derived context_length|Unknown quantization method"
        r"|Unsupported quantization",
        words="it does not take an argument",
    ),
    Sign(
        cause="oom",
        pattern=r"Not enough memory\. Please try to increase --mem-fraction-static|CUDA out of memory"
        r"|torch\.OutOfMemoryError|max_running_request is zero",
        words="there is not enough memory; give it fewer slots, a shorter context, more GPUs or narrower weights",
    ),
    Sign(
        cause="missing_file",
        pattern=r"Cannot find any model weights with|gated repo|Repo id must be in the form"
        r"|outgoing traffic has been disabled",
        words="files of the model are missing here",
    ),
    Sign(
        cause="bad_model",
        pattern=r"does not recognize this architecture|Model architectures .* are not supported|SafetensorError"
        r"|does not appear to have a file named config\.json|trust_remote_code=True",
        words="it cannot read the checkpoint",
    ),
    Sign(
        cause="unsupported",
        pattern=r"quantization method \S+ is not supported|Minimum capability: |Capture cuda graph failed"
        r"|no kernel image is available",
        words="it has no kernel for this here",
    ),
)
"""Lines of a start that failed, as the sources of 0.5.23 write them."""
