"""The embedded engine: llama.cpp out of the xllamacpp wheel, in a guarded process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fleetbench.engine import llamacpp_words
from fleetbench.engine.protocol import Ask, ColdStart, Command, LaunchError, LaunchSpec, Said, Sign

NAME = "llamacpp"
WHEEL = "xllamacpp"
CACHES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""Formats of the attention cache. Source: `llama-server --help` of build b10605, --cache-type-k."""
SEEDS = 2**32
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ORDER = "spec.json"


class LlamaCpp:
    """llama.cpp's own server, of fleetbench's own Python; on the CPU alone. It keeps nothing between requests."""

    name = NAME
    package = WHEEL
    program = "python"
    version_argv = (
        "python",
        "-P",
        "-c",
        f"import {WHEEL}, importlib.metadata as m; print('version', m.version('{WHEEL}'))",
    )
    health = "/health"
    asks = ("/props", "/slots")
    reset: Ask | None = None
    metrics = ("llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total")
    signs: tuple[Sign, ...] = ()

    def command(self, spec: LaunchSpec, version: str, folder: Path, port: int) -> Command:  # noqa: ARG002  one version
        refuse(NAME, spec, CACHES)
        if spec.args:
            reason = f"it takes no arguments ({spec.args[0]!r}): use llama-server for that"
            raise LaunchError(NAME, "arguments", reason, "")
        if spec.recipe.draft or spec.recipe.lora:
            raise LaunchError(NAME, "unsupported", "it has no drafts and no LoRA here: use llama-server for that", "")
        order = {
            "model_path": str(spec.model_path),
            "alias": spec.model_name,
            "port": port,
            "slots": spec.slots,
            "context_tok": spec.context_tok,
            "threads": spec.threads,
            "seed": spec.seed % SEEDS,
            "kv_k": spec.recipe.kv.k,
            "kv_v": spec.recipe.kv.v,
        }
        argv = ("python", "-P", "-m", "fleetbench.engine.llamacpp_server", str(folder / ORDER))
        env = dict.fromkeys(THREAD_LIMITS, str(spec.threads))
        return Command(argv=argv, env=env, files={ORDER: json.dumps(order)})

    def requested(self, spec: LaunchSpec) -> dict[str, Any]:
        return requested(spec)

    def effective(self, said: Said) -> dict[str, Any]:
        return llamacpp_words.effective(said.log, said.answers.get("/props"), said.answers.get("/slots"), said.version)

    def cold(self, log: str) -> ColdStart:
        return llamacpp_words.cold(log)


def refuse(name: str, spec: LaunchSpec, caches: tuple[str, ...]) -> None:
    """What no form of llama.cpp does; raises LaunchError."""
    recipe = spec.recipe
    if spec.checkpoint != "gguf":
        raise LaunchError(name, "unsupported", "it serves GGUF files: prepare one of this model", "")
    if spec.dummy:
        raise LaunchError(name, "unsupported", "it has no weights without a file", "")
    strange = [kv for kv in (recipe.kv.k, recipe.kv.v) if kv not in caches]
    if strange:
        raise LaunchError(name, "unsupported", f"it has no cache format {strange[0]}; it has {', '.join(caches)}", "")
    if {recipe.kv.k_scales, recipe.kv.v_scales} - {"auto", "per_block"}:
        raise LaunchError(name, "unsupported", "its cache formats have one scale for each block, and no other", "")


def requested(spec: LaunchSpec) -> dict[str, Any]:
    """What every form of llama.cpp says of itself and can be held to."""
    asked: dict[str, Any] = {
        "weights": spec.recipe.weights,
        "kv_k": spec.recipe.kv.k,
        "kv_v": spec.recipe.kv.v,
        "slots": spec.slots,
        "context_tok": spec.context_tok,
        "threads": spec.threads,
        "prefill_threads": spec.threads,
        "seed": spec.seed % SEEDS,
        "flash_attention": "enabled",
    }
    if not spec.recipe.protect and spec.recipe.weights not in (*llamacpp_words.FLOATS, "f32"):
        asked["kept_16bit"] = 0
    return asked
