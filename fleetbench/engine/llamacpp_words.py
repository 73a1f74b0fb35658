"""What llama.cpp says of itself, in its log and its endpoints, read into plain values."""

from __future__ import annotations

import re
from typing import Any

from fleetbench.engine.protocol import ColdStart

TENSORS = re.compile(r"llama_model_loader: - type\s+(\w+):\s+(\d+) tensors")
CACHE = re.compile(r"llama_kv_cache: size = .*K \((\w+)\):.*V \((\w+)\):")
THREADS = re.compile(r"system_info: n_threads = (\d+) \(n_threads_batch = (\d+)\)")
CONTEXT = re.compile(r"llama_context: (n_batch|n_ubatch|flash_attn)\s+= (\w+)")
SYSTEM = re.compile(r"system_info: .*?\| (.*?)\s*\|?\s*$", re.MULTILINE)
VERSION = re.compile(r"^llamacpp_server: xllamacpp (\S+)$", re.MULTILINE)
OFFLOADED = re.compile(r"load_tensors: offloaded (\d+)/(\d+) layers to GPU")
DRAFT = re.compile(r"adding speculative implementation '([\w-]+)'")
NO_DRAFT = "no implementations specified for speculative decoding"
STAMPED = re.compile(r"^(\d+)\.(\d\d)\.(\d{3})\.(\d{3}) [A-Z] (.*)$", re.MULTILINE)
FLOATS = ("bf16", "f16")
PLAIN_NAMES = {"IQ3_S mix": "iq3_m", "MXFP4 MoE": "mxfp4"}
SIZES = {"Small": "s", "Medium": "m", "Large": "l"}


def tensor_types(log: str) -> dict[str, int]:
    """Weight matrices by type, a count; f32 vectors do not count beside anything else."""
    found = {name.lower(): int(count) for name, count in TENSORS.findall(log)}
    return {name: count for name, count in found.items() if name != "f32"} or found


def weights(log: str, file_type: str | None = None) -> str | None:
    """The format of the weight matrices.

    One type is its own name. Several are a mixture that the file says it is (`q4_k_m`); a mixture without a name is
    its types, most tensors first, joined by plus. Matrices that stayed at 16 bits beside quantized ones are left
    out: `kept_16bit` counts them.
    """
    found = tensor_types(log)
    narrow = {name: count for name, count in found.items() if name not in FLOATS} or found
    mixture = mixture_name(file_type)
    if len(narrow) > 1 and mixture is not None:
        return mixture
    return "+".join(sorted(narrow, key=lambda name: (-narrow[name], name))) or None


def kept_16bit(log: str) -> int | None:
    """Matrices at 16 bits beside quantized ones, a count; None where nothing is said or nothing is quantized."""
    found = tensor_types(log)
    wide = {name: count for name, count in found.items() if name in FLOATS}
    return sum(wide.values()) if len(found) > len(wide) else None


def mixture_name(file_type: str | None) -> str | None:
    """`q4_k_m` for llama.cpp's `Q4_K - Medium`; None where it only guesses, or names no mixture."""
    if file_type is None or "guessed" in file_type:
        return None
    name, _, size = file_type.partition(" - ")
    if name in PLAIN_NAMES:
        return PLAIN_NAMES[name]
    return f"{name}_{SIZES[size]}".lower() if size in SIZES else name.lower()


def effective(log: str, props: Any, slots: Any, version: str | None) -> dict[str, Any]:
    """The configuration that runs; what the engine does not say is None.

    Args:
        log: the engine's log from its start.
        props: the answer of `/props`.
        slots: the answer of `/slots`.
        version: of the library that the process loaded, where it does not say itself.
    """
    cache = CACHE.search(log)
    threads = THREADS.search(log)
    context = dict(CONTEXT.findall(log))
    system = SYSTEM.search(log)
    told = VERSION.search(log)
    props = props if isinstance(props, dict) else {}
    rooms = _rooms(slots)
    file_type = props.get("model_ftype")
    return {
        "version": told[1] if told else version,
        "weights": weights(log, file_type if isinstance(file_type, str) else None),
        "kept_16bit": kept_16bit(log),
        "kv_k": cache[1].lower() if cache else None,
        "kv_v": cache[2].lower() if cache else None,
        "slots": len(rooms) or None,
        "context_tok": min(rooms, default=None),
        "threads": int(threads[1]) if threads else None,
        "prefill_threads": int(threads[2]) if threads else None,
        "seed": _seed(props),
        "flash_attention": context.get("flash_attn"),
        "batch_tok": int(context["n_batch"]) if "n_batch" in context else None,
        "microbatch_tok": int(context["n_ubatch"]) if "n_ubatch" in context else None,
        "file_type": file_type,
        "instruction_sets": system[1] if system else None,
    }


def gpu_layers(log: str) -> str | None:
    """`all`, `none`, or how many of how many; None before it loads tensors."""
    found = OFFLOADED.search(log)
    if found is None:
        return "none" if "load_tensors: " in log else None
    return {found[2]: "all", "0": "none"}.get(found[1], f"{found[1]} of {found[2]}")


def draft(log: str) -> str | None:
    """How it guesses ahead, by its own name for it; `none` where it does not."""
    found = DRAFT.search(log)
    if found is not None:
        return found[1]
    return "none" if NO_DRAFT in log else None


def cold(log: str) -> ColdStart:
    """Phases by the log's own stamps.

    read_s: the tensors' loading, None where they are only mapped and read later, as they are used; load_s: from the
    load's begin to the warm-up, less that; compile_s: the warm-up, an empty run.
    """
    begins = _at(log, "loading model '")
    tensors, context = _at(log, "loading model tensors"), _at(log, "constructing llama_context")
    warms, warm = _at(log, "warming up the model"), _at(log, "initializing, n_slots")
    mapped = "CPU_Mapped model buffer" in log and log.count(" model buffer size") == 1
    read_s = None if mapped else _between(tensors, context)
    whole_s = _between(begins, warms)
    load_s = None if whole_s is None else whole_s - (read_s or 0.0)
    return ColdStart(read_s=read_s, load_s=load_s, compile_s=_between(warms, warm))


def _at(log: str, words: str) -> float | None:
    """Seconds since the engine's start at the first line with these words; stamps are minutes.seconds.ms.us."""
    for found in STAMPED.finditer(log):
        if words in found[5]:
            return int(found[1]) * 60 + int(found[2]) + int(found[3]) / 1e3 + int(found[4]) / 1e6
    return None


def _between(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None or end < begin else end - begin


def _rooms(slots: Any) -> list[int]:
    """Tokens of each slot."""
    listed = slots if isinstance(slots, list) else []
    rooms = [slot.get("n_ctx") for slot in listed if isinstance(slot, dict)]
    return [room for room in rooms if isinstance(room, int)]


def _seed(props: dict[str, Any]) -> Any:
    defaults = props.get("default_generation_settings")
    params = defaults.get("params") if isinstance(defaults, dict) else None
    return params.get("seed") if isinstance(params, dict) else None
