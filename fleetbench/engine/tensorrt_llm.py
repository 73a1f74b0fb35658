"""TensorRT-LLM: `trtllm-serve MODEL` with a YAML file, as values. Never run by this project, nor read from a release.

Names are those of the public repository NVIDIA/TensorRT-LLM near 1.2, read 2026-11-24: options in
tensorrt_llm/commands/serve.py (commit 00209af149e7774406881a37283dce303571eb11), routes in serve/openai_server.py,
metrics in metrics/collector.py, the printed `LLM Args:` in _torch/pyexecutor/py_executor_creator.py, the switch of
usage statistics in usage/usage_lib.py; the keys of kv_cache_config from
nvidia.github.io/TensorRT-LLM/1.3.0rc27/llm-api/reference/KvCacheConfig.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fleetbench.engine import flags, sixteen, tensorrt_llm_words, torch_engines
from fleetbench.engine.protocol import Ask, ColdStart, Command, LaunchError, LaunchSpec, Said, Sign
from fleetbench.matrix.types import Recipe

NAME = "tensorrt-llm"
OPTIONS = "options.yaml"
CACHES: Mapping[str, str] = {"fp8": "fp8", "nvfp4": "nvfp4"}
DRAFTS: Mapping[str, str] = {
    "model": "DraftTarget",
    "eagle3": "Eagle",
    "medusa": "Medusa",
    "mtp": "MTP",
    "ngram": "NGram",
}


class TensorRtLlm:
    """The adapter; block reuse is off, so that there is no prefix cache to empty.

    metrics_path: where it serves Prometheus text; its `/metrics` is JSON.
    """

    name = NAME
    package = "tensorrt_llm"
    program = "trtllm-serve"
    version_argv = ("python3", "-c", "import importlib.metadata as m; print('version', m.version('tensorrt_llm'))")
    health = "/health"
    asks = ("/version", "/v1/models")
    reset: Ask | None = None
    metrics: tuple[str, ...] = (
        "request_success_total",
        "time_to_first_token_seconds",
    )  # with or without trtllm_ before
    metrics_path = "/prometheus/metrics"
    signs: tuple[Sign, ...] = tensorrt_llm_words.SIGNS

    def command(self, spec: LaunchSpec, version: str, folder: Path, port: int) -> Command:
        if spec.checkpoint == "gguf":
            raise LaunchError(NAME, "unsupported", "it takes no GGUF file: prepare another checkpoint", "")
        if spec.parallel.dp > 1:
            reason = "one server of it holds one replica (data-parallel 1): run more servers, or ask for tp"
            raise LaunchError(NAME, "unsupported", reason, "")
        argv = (
            *(self.program, str(spec.model_path), "--host", "127.0.0.1", "--port", str(port), "--backend", "pytorch"),
            *("--max_batch_size", str(spec.slots), "--max_seq_len", str(spec.context_tok)),
            *("--tp_size", str(spec.parallel.tp), "--pp_size", str(spec.parallel.pp)),
            *("--extra_llm_api_options", str(folder / OPTIONS), *spec.args),
        )
        flags.check(NAME, version, argv)
        text = yaml.safe_dump(_options(spec), sort_keys=True)
        # Its server answers to any name and calls the model by its folder.
        return Command(argv=argv, env=_environment(), files={OPTIONS: text}, alias=spec.model_path.name)

    def requested(self, spec: LaunchSpec) -> dict[str, Any]:
        """Formats of weights come with the checkpoint, and are told of ModelOpt's alone: they are not asked for."""
        recipe = spec.recipe
        asked: dict[str, Any] = {
            "context_tok": spec.context_tok,
            "slots": spec.slots,
            "tp": spec.parallel.tp,
            "pp": spec.parallel.pp,
            "prefix_caching": False,
            "dummy": spec.dummy,
        }
        if recipe.kv.k in CACHES:
            asked |= {"kv_k": recipe.kv.k, "kv_v": recipe.kv.v}
        return asked

    def effective(self, said: Said) -> dict[str, Any]:
        return tensorrt_llm_words.effective(said.log, said.answers, said.version)

    def cold(self, log: str) -> ColdStart:
        return tensorrt_llm_words.cold(log)


def _environment() -> dict[str, str]:
    return {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRTLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def _options(spec: LaunchSpec) -> dict[str, Any]:
    """The YAML file: what `trtllm-serve` has no option for; it overrides the options that it has."""
    recipe = spec.recipe
    cache: dict[str, Any] = {"enable_block_reuse": False}
    dtype = _cache(recipe)
    if dtype is not None:
        cache["dtype"] = dtype
    options: dict[str, Any] = {
        "kv_cache_config": cache,
        "return_perf_metrics": True,  # without it there are no Prometheus metrics
        "enable_iter_perf_stats": True,
        "stream_interval": 1,
    }
    if spec.dummy:
        options["load_format"] = "dummy"
    if recipe.lora:
        options["lora_config"] = {"lora_dir": list(recipe.lora), "max_loras": len(recipe.lora)}
    if recipe.draft is not None:
        options["speculative_config"] = _speculation(recipe)
    return options


def _cache(recipe: Recipe) -> str | None:
    kv = recipe.kv
    torch_engines.refuse_two_caches(NAME, kv)
    if recipe.attention not in {"auto", *sixteen.NAMES} and recipe.attention != kv.k:
        raise LaunchError(NAME, "unsupported", f"its attention cannot be asked to multiply in {recipe.attention}", "")
    if kv.k == "auto" or kv.k in sixteen.NAMES:
        return None
    if kv.k not in CACHES or kv.k_scales not in ("auto", "per_tensor", "per_block"):
        raise LaunchError(NAME, "unsupported", f"it has no cache format {kv}; it has 16 bits, {', '.join(CACHES)}", "")
    return CACHES[kv.k]


def _speculation(recipe: Recipe) -> dict[str, Any]:
    draft = recipe.draft
    if draft is None or draft.method not in DRAFTS:
        method = draft.method if draft else None
        raise LaunchError(NAME, "unsupported", f"it does not speculate by {method}; by {', '.join(DRAFTS)}", "")
    told: dict[str, Any] = {"decoding_type": DRAFTS[draft.method], "max_draft_len": draft.tokens}
    return told if draft.model is None else {**told, "speculative_model_dir": draft.model}
