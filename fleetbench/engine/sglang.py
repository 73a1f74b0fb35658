"""SGLang: `python -m sglang.launch_server`, as values. Never run by this project.

Read out of the wheel of 0.5.23: flags in srt/arg_groups/fields and srt/server_args.py (known_flags/sglang.yaml), the
answers of /server_info in srt/entrypoints/http_server.py and ServerArgs.resolved_dict, metrics in
srt/observability/metrics_collector.py, log lines where sglang_words.py names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleetbench.engine import flags, sglang_words, sixteen, torch_engines
from fleetbench.engine.protocol import Ask, ColdStart, Command, LaunchError, LaunchSpec, Said, Sign
from fleetbench.matrix.types import Recipe

NAME = "sglang"

IN_FLIGHT: Mapping[str, str] = {"fp8": "fp8", "mxfp8": "mxfp8", "nvfp4": "nvfp4_online"}
"""What it makes of 16-bit weights while it loads them (srt/arg_groups/choices.py), by the recipe's weights."""
CACHES: Mapping[str, str] = {"fp8": "fp8_e4m3", "fp8_e5m2": "fp8_e5m2", "mxfp8": "mxfp8", "nvfp4": "nvfp4"}
"""--kv-cache-dtype (srt/arg_groups/fields/model.py), by the recipe's cache."""
DRAFTS: Mapping[str, str] = {
    "model": "STANDALONE",
    "eagle": "EAGLE",
    "eagle3": "EAGLE3",
    "mtp": "NEXTN",
    "ngram": "NGRAM",
}
ENVIRONMENT: Mapping[str, str] = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}


class Sglang:
    """The adapter; its radix cache is off, so that there is nothing to empty."""

    name = NAME
    package = "sglang"
    program = "python3"
    version_argv = ("python3", "-c", "import importlib.metadata as m; print('version', m.version('sglang'))")
    health = "/health"
    asks = ("/server_info", "/model_info", "/v1/models", "/metrics")
    reset: Ask | None = None
    metrics = (
        "sglang:prompt_tokens_total",
        "sglang:generation_tokens_total",
        "sglang:num_running_reqs",
        "sglang:token_usage",
    )
    signs: tuple[Sign, ...] = sglang_words.SIGNS

    def command(self, spec: LaunchSpec, version: str, folder: Path, port: int) -> Command:  # noqa: ARG002  no files
        words = _arguments(spec, port)
        flags.check(NAME, version, words, spec.args)
        return Command(argv=(self.program, "-m", "sglang.launch_server", *words, *spec.args), env=ENVIRONMENT)

    def requested(self, spec: LaunchSpec) -> dict[str, Any]:
        """Which kernels multiply, and how wide a compressed checkpoint is, it does not say: neither is asked for."""
        recipe = spec.recipe
        asked: dict[str, Any] = {
            "quantized": recipe.weights not in sixteen.NAMES,
            **torch_engines.requested(spec),
        }
        if recipe.weights in sixteen.NAMES or spec.checkpoint == "source":
            asked["weights"] = sixteen.common(recipe.weights)
        if recipe.activations in sixteen.NAMES and recipe.weights in sixteen.NAMES:
            asked["activations"] = sixteen.common(recipe.activations)
        return asked

    def effective(self, said: Said) -> dict[str, Any]:
        return sglang_words.effective(said.log, said.answers, said.version)

    def cold(self, log: str) -> ColdStart:
        return sglang_words.cold(log)


def _arguments(spec: LaunchSpec, port: int) -> list[str]:
    recipe, parallel = spec.recipe, spec.parallel
    argv = [
        *("--model-path", str(spec.model_path), "--served-model-name", spec.model_name),
        *("--host", "127.0.0.1", "--port", str(port), "--dtype", torch_engines.dtype(recipe)),
        *("--context-length", str(spec.context_tok), "--max-running-requests", str(spec.slots)),
        *("--tp-size", str(parallel.tp), "--random-seed", str(spec.seed % torch_engines.SEEDS)),
        *("--disable-radix-cache", "--enable-metrics", "--log-level", "info"),
    ]
    if parallel.pp > 1:
        argv += ["--pp-size", str(parallel.pp)]
    if parallel.dp > 1:
        argv += ["--dp-size", str(parallel.dp)]
    if (span := spec.span) is not None:
        argv += ["--nnodes", str(span.nodes), "--node-rank", str(span.rank)]
        argv += ["--dist-init-addr", f"{span.address}:{span.port}"]
    if spec.dummy:
        argv += ["--load-format", "dummy"]
    argv += _quantization(spec)
    argv += _cache(recipe)
    if recipe.lora:
        argv += ["--enable-lora", "--max-loras-per-batch", str(len(recipe.lora) + 1), "--lora-paths"]
        argv += [f"{Path(path).name}={path}" for path in recipe.lora]
    return argv + _speculation(recipe)


def _quantization(spec: LaunchSpec) -> list[str]:
    weights = torch_engines.made_in_flight(NAME, spec, tuple(IN_FLIGHT))
    return [] if weights is None else ["--quantization", IN_FLIGHT[weights]]


def _cache(recipe: Recipe) -> list[str]:
    torch_engines.refuse_cache(NAME, recipe)
    kv = recipe.kv
    if torch_engines.as_wide_as_the_model(recipe):
        return []
    if kv.k == "bf16":
        return ["--kv-cache-dtype", "bfloat16"]
    if kv.k not in CACHES or kv.k_scales not in ("auto", "per_tensor", "per_block"):
        raise LaunchError(NAME, "unsupported", f"it has no cache format {kv}; it has bf16, {', '.join(CACHES)}", "")
    return ["--kv-cache-dtype", CACHES[kv.k]]


def _speculation(recipe: Recipe) -> list[str]:
    draft = recipe.draft
    if draft is None:
        return []
    if draft.method not in DRAFTS:
        raise LaunchError(NAME, "unsupported", f"it does not speculate by {draft.method}; by {', '.join(DRAFTS)}", "")
    argv = ["--speculative-algorithm", DRAFTS[draft.method]]
    if draft.method == "ngram":
        return [*argv, "--speculative-num-draft-tokens", str(draft.tokens)]
    # One chain of guesses; the token that is verified beside them counts as a draft token.
    argv += ["--speculative-num-steps", str(draft.tokens), "--speculative-eagle-topk", "1"]
    argv += ["--speculative-num-draft-tokens", str(draft.tokens + 1)]
    return argv if draft.model is None else [*argv, "--speculative-draft-model-path", draft.model]
