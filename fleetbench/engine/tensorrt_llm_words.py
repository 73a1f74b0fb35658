"""What TensorRT-LLM says of itself, read into plain values. From public sources near 1.2; never run here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fleetbench.engine.protocol import ColdStart, Sign

ARGUMENTS = re.compile(r"LLM Args:\n(.*(?:\n(?!\[).*)*)")
"""Printed once by rank 0 when the executor stands: the fields as `name=value`, in one line or several."""
CACHE = re.compile(r"kv_cache_config=KvCacheConfig\((.*)")
SET = re.compile(r"Setting (kv_cache_quant_algo|quant_algo)=(?:QuantAlgo\.)?(\w+)\S* (?:from|form) HF quant config")
"""Of a checkpoint that ModelOpt made; llmapi/llm_utils.py, and as users of 1.2 print it, misspelt."""
ALGORITHMS: Mapping[str, tuple[str, str | None]] = {
    "FP8": ("fp8", "fp8"),
    "FP8_PER_CHANNEL_PER_TOKEN": ("fp8", "fp8"),
    "FP8_BLOCK_SCALES": ("fp8", "fp8"),
    "NVFP4": ("nvfp4", "nvfp4"),
    "W4A16_AWQ": ("int4", None),
    "W4A16_GPTQ": ("int4", None),
    "W4A16": ("int4", None),
    "W8A16": ("int8", None),
    "W4A8_AWQ": ("int4", "fp8"),
}
"""Weights and activations by ModelOpt's names; None for 16 bits, of which it is not said which."""
ROOM = re.compile(r"Allocated [\d.]+ GiB for max tokens in paged KV cache \((\d+)\)")


def effective(log: str, answers: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The configuration that runs; what the engine does not say is None.

    Args:
        log: its log from the start.
        answers: of `/version`.
        version: of the package.
    """
    printed = ARGUMENTS.search(log)
    args = printed[1] if printed else ""
    cache = CACHE.search(args)
    within = cache[1] if cache else ""
    algorithms = dict(SET.findall(log))
    weights, activations = ALGORITHMS.get(algorithms.get("quant_algo", ""), (None, None))
    kv = _kv(_field(within, "dtype")) or (
        algorithms["kv_cache_quant_algo"].lower() if "kv_cache_quant_algo" in algorithms else None
    )
    room = ROOM.search(log)
    answer = answers.get("/version")
    told = answer.get("version") if isinstance(answer, dict) else None
    load = _field(args, "load_format")
    return {
        "version": told or version or None,
        "weights": weights,
        "activations": activations,
        "quantization": algorithms.get("quant_algo"),
        "kv_k": kv,
        "kv_v": kv,
        "kv_dtype": _field(within, "dtype"),
        "kv_tok": int(room[1]) if room else None,
        "context_tok": _whole(_field(args, "max_seq_len")),
        "slots": _whole(_field(args, "max_batch_size")),
        "tp": _whole(_field(args, "tensor_parallel_size")),
        "pp": _whole(_field(args, "pipeline_parallel_size")),
        "prefix_caching": {"True": True, "False": False}.get(_field(within, "enable_block_reuse") or ""),
        "dummy": None if load is None else "dummy" in load.lower(),
        "attention_kernel": (_field(args, "attn_backend") or "").lower() or None,
        "gemm_kernel": None,
        "stream_interval": _whole(_field(args, "stream_interval")),
    }


def _field(text: str, name: str) -> str | None:
    found = re.search(rf"(?:^|[\s(,]){name}=('[^']*'|<[^>]*>|[^\s,()]+)", text)
    return found[1].strip("'") if found else None


def _kv(dtype: str | None) -> str | None:
    """A cache that follows the model (`auto`) is not said to be of any format."""
    return None if dtype in (None, "auto") else dtype


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def cold(log: str) -> ColdStart:  # noqa: ARG001  of its log, no line is known that tells the phases
    return ColdStart()


SIGNS: tuple[Sign, ...] = (
    Sign(cause="port", pattern=r"Failed to bind socket to", words="its port is taken or not allowed"),
    Sign(
        cause="arguments",
        pattern=r"Error: No such option|Error: Invalid value for|validation errors? for \w*LlmArgs",
        words="it does not take an argument",
    ),
    Sign(
        cause="oom",
        pattern=r"Executor creation failed due to insufficient GPU memory|CUDA out of memory|torch\.OutOfMemoryError",
        words="there is not enough memory; give it fewer slots, a shorter context, more GPUs or narrower weights",
    ),
    Sign(cause="device", pattern=r"No GPU devices found on the node", words="there are not enough devices for this"),
    Sign(
        cause="bad_model",
        pattern=r"does not recognize this architecture|Unknown architecture for AutoModelForCausalLM|SafetensorError"
        r"|does not appear to have a file named config\.json",
        words="it cannot read the checkpoint",
    ),
)
"""Lines of a start that failed: commands/serve.py and _torch/pyexecutor/py_executor_creator.py, near 1.2."""
