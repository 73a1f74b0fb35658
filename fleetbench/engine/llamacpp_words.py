"""What llama.cpp says of itself, in its log and its endpoints, read into plain values."""

from __future__ import annotations

import re
from typing import Any

TENSORS = re.compile(r"llama_model_loader: - type\s+(\w+):\s+(\d+) tensors")
CACHE = re.compile(r"llama_kv_cache: size = .*K \((\w+)\):.*V \((\w+)\):")
THREADS = re.compile(r"system_info: n_threads = (\d+) \(n_threads_batch = (\d+)\)")
CONTEXT = re.compile(r"llama_context: (n_batch|n_ubatch|flash_attn)\s+= (\w+)")
SYSTEM = re.compile(r"system_info: .*?\| (.*?)\s*\|?\s*$", re.MULTILINE)
LISTENING = re.compile(r"listening on http")


def weights(log: str) -> str | None:
    """The formats of the weight matrices, most tensors first, joined by plus; f32 vectors do not count."""
    found = {name.lower(): int(count) for name, count in TENSORS.findall(log)}
    formats = {name: count for name, count in found.items() if name != "f32"} or found
    return "+".join(sorted(formats, key=lambda name: (-formats[name], name))) or None


def effective(log: str, props: dict[str, Any], slots: list[dict[str, Any]], version: str | None) -> dict[str, Any]:
    """The configuration that runs; what the engine does not say is None.

    Args:
        log: the engine's log from its start.
        props: the answer of `/props`.
        slots: the answer of `/slots`.
        version: of the library that the process loaded.
    """
    cache = CACHE.search(log)
    threads = THREADS.search(log)
    context = dict(CONTEXT.findall(log))
    system = SYSTEM.search(log)
    rooms = [slot["n_ctx"] for slot in slots if isinstance(slot.get("n_ctx"), int)]
    defaults = props.get("default_generation_settings", {}).get("params", {})
    return {
        "version": version,
        "weights": weights(log),
        "kv_k": cache[1].lower() if cache else None,
        "kv_v": cache[2].lower() if cache else None,
        "slots": len(slots) or None,
        "context_tok": min(rooms, default=None),
        "threads": int(threads[1]) if threads else None,
        "prefill_threads": int(threads[2]) if threads else None,
        "seed": defaults.get("seed"),
        "flash_attention": context.get("flash_attn"),
        "batch_tok": int(context["n_batch"]) if "n_batch" in context else None,
        "microbatch_tok": int(context["n_ubatch"]) if "n_ubatch" in context else None,
        "file_type": props.get("model_ftype"),
        "instruction_sets": system[1] if system else None,
    }
