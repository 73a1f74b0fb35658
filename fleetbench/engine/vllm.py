"""vLLM: `vllm serve`, as values.

Flags are checked against known_flags/vllm.yaml. Really run by this project: 0.32.0 on a CPU (tests/engines); what GPUs
alone log (attention backends, memory) is read as the sources of 0.30.0 to 0.33.0 write it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleetbench.catalog import lookup
from fleetbench.engine import flags, sixteen, torch_engines, vllm_start, vllm_words
from fleetbench.engine.protocol import Ask, ColdStart, Command, LaunchError, LaunchSpec, Said, Sign, Span
from fleetbench.matrix.types import Draft, Recipe

NAME = "vllm"
CPU_CACHE_GIB = 4
"""Room for the KV cache on a CPU, where vLLM would else take almost all memory; a node may set its own."""

IN_FLIGHT: Mapping[str, tuple[str, ...]] = {
    # What it makes of 16-bit weights while it loads them, by the recipe's weights; the first way that a version has.
    # Scales as llmcompressor's FP8_DYNAMIC has them, a weight channel and a token's activations; before 0.24 `fp8`
    # alone, whose weights have scales by its own rule, which was not looked at.
    "fp8": ("fp8_per_channel", "fp8"),
    "mxfp8": ("mxfp8",),
    "mxfp4": ("mxfp4",),
    "int8": ("int8_per_channel_weight_only",),  # experts alone: a dense model stays as it is, and is found out
}
CACHES: Mapping[tuple[str, str], str] = {
    ("fp8", "auto"): "fp8",
    ("fp8", "per_tensor"): "fp8",
    ("fp8", "per_head"): "fp8_per_token_head",
    ("fp8", "per_token"): "fp8_per_token_head",
    ("fp8_e5m2", "auto"): "fp8_e5m2",
    ("fp8_e5m2", "per_tensor"): "fp8_e5m2",
    ("int8", "auto"): "int8_per_token_head",
    ("int8", "per_head"): "int8_per_token_head",
    ("int8", "per_token"): "int8_per_token_head",
    ("int4", "auto"): "int4_per_token_head",
    ("int4", "per_head"): "int4_per_token_head",
    ("int4", "per_token"): "int4_per_token_head",
    ("nvfp4", "auto"): "nvfp4",
    ("nvfp4", "per_block"): "nvfp4",
}
DRAFTS: Mapping[str, str] = {"model": "draft_model"}
ENVIRONMENT: Mapping[str, str] = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "INFO",
    "VLLM_LOGGING_COLOR": "0",
    "VLLM_LOG_MODEL_INSPECTION": "1",  # it then says of every layer how it is quantized
    "NO_COLOR": "1",
}
OFFLINE: Mapping[str, str] = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class Vllm:
    """The adapter; its prefix cache is off, so that there is nothing to empty."""

    name = NAME
    package = "vllm"
    program = "vllm"
    version_argv = ("vllm", "--version")
    health = "/health"
    asks = ("/version", "/v1/models", "/metrics")
    reset: Ask | None = None
    metrics = (
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:prefix_cache_hits_total",
        "vllm:num_requests_running",
        "vllm:kv_cache_usage_perc",
    )
    signs: tuple[Sign, ...] = vllm_start.SIGNS

    def command(self, spec: LaunchSpec, version: str, folder: Path, port: int) -> Command:  # noqa: ARG002  no files
        argv = (self.program, "serve", str(spec.model_path), *_arguments(spec, version, port))
        flags.check(NAME, version, argv, spec.args)
        return Command(argv=(*argv, *spec.args), env=_environment(spec))

    def requested(self, spec: LaunchSpec) -> dict[str, Any]:
        recipe = spec.recipe
        besides = _given(spec.args, "--quantization", "-q")
        asked: dict[str, Any] = {
            "quantized": recipe.weights not in sixteen.NAMES or besides is not None,
            **torch_engines.requested(spec),
        }
        if besides is None:
            asked.update(_asked_numbers(spec))
        if besides is None and spec.kernel is not None:
            asked["gemm_kernel"] = spec.kernel
        backend = _given(spec.args, "--attention-backend")
        if backend is not None:
            asked["attention_kernel"] = backend.lower()
        if recipe.draft is not None:
            asked |= {"draft": recipe.draft.method, "draft_tok": recipe.draft.tokens}
        if recipe.lora:
            asked["lora"] = sorted(_adapters(recipe))
        return asked

    def effective(self, said: Said) -> dict[str, Any]:
        return vllm_words.effective(said.log, said.answers, said.version)

    def cold(self, log: str) -> ColdStart:
        return vllm_start.cold(log)


def _arguments(spec: LaunchSpec, version: str, port: int) -> list[str]:
    recipe, parallel = spec.recipe, spec.parallel
    argv = [
        *("--served-model-name", spec.model_name, "--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", torch_engines.dtype(recipe), "--max-model-len", str(spec.context_tok)),
        *("--max-num-seqs", str(-(-spec.slots // parallel.dp)), "--tensor-parallel-size", str(parallel.tp)),
        *("--no-enable-prefix-caching", "--seed", str(spec.seed % torch_engines.SEEDS)),
        *("--generation-config", "vllm", "--disable-uvicorn-access-log"),
    ]
    if parallel.pp > 1:
        argv += ["--pipeline-parallel-size", str(parallel.pp)]
    if parallel.dp > 1:
        argv += ["--data-parallel-size", str(parallel.dp)]
    if spec.span is not None:
        argv += _over_nodes(spec.span)
    if spec.dummy:
        argv += ["--load-format", "dummy"]
    argv += _quantization(spec, version)
    argv += _cache(recipe)
    if recipe.lora:
        argv += ["--enable-lora", "--max-loras", str(len(recipe.lora)), "--lora-modules"]
        argv += [f"{name}={path}" for name, path in _adapters(recipe).items()]
    if recipe.draft is not None:
        argv += ["--speculative-config", json.dumps(_speculation(recipe.draft))]
    return argv


def _over_nodes(span: Span) -> list[str]:
    """Its own processes on every node, met at rank 0, which alone has an API; it shares ranks out by node itself."""
    argv = ["--distributed-executor-backend", "mp", "--nnodes", str(span.nodes), "--node-rank", str(span.rank)]
    argv += ["--master-addr", span.address, "--master-port", str(span.port)]
    return [*argv, "--headless"] if span.rank else argv


def _environment(spec: LaunchSpec) -> dict[str, str]:
    draft = spec.recipe.draft
    fetched = draft is not None and draft.model is not None and not Path(draft.model).is_absolute()
    env = {**ENVIRONMENT, **({} if fetched else OFFLINE)}
    if spec.span is not None:
        env["VLLM_HOST_IP"] = spec.span.own  # else it takes the address that leads to the internet
    hardware = lookup.gpu_info(spec.hardware)
    if hardware is not None and hardware.vendor == "cpu":
        env["VLLM_CPU_KVCACHE_SPACE"] = str(CPU_CACHE_GIB)
        if spec.threads is not None:
            env |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(spec.threads)}
    return env


def _quantization(spec: LaunchSpec, version: str) -> list[str]:
    weights = torch_engines.made_in_flight(NAME, spec, tuple(IN_FLIGHT))
    if weights is None:
        return []
    ways = IN_FLIGHT[weights]
    known = flags.known(NAME, version)
    return ["--quantization", next((way for way in ways if f"--quantization={way}" in known), ways[0])]


def _cache(recipe: Recipe) -> list[str]:
    torch_engines.refuse_cache(NAME, recipe)
    kv = recipe.kv
    if torch_engines.as_wide_as_the_model(recipe):
        return []
    if kv.k in sixteen.NAMES:
        return ["--kv-cache-dtype", sixteen.torch(kv.k)]
    flag = CACHES.get((kv.k, kv.k_scales))
    if flag is None:
        known = ", ".join(dict.fromkeys(name for name, _ in CACHES))
        raise LaunchError(NAME, "unsupported", f"it has no cache format {kv}; it has 16 bits, {known}", "")
    return ["--kv-cache-dtype", flag]


def _asked_numbers(spec: LaunchSpec) -> dict[str, str]:
    """The formats of weights and activations, as far as vLLM or its checkpoint says them.

    Of integers that it multiplies with 16-bit activations it says that layers are quantized, and the checkpoint how
    wide they are; of those that it makes while it loads them nothing does. Where the plan expects a kernel that
    emulates, activations stay 16 bits wide.
    """
    recipe = spec.recipe
    asked: dict[str, str] = {}
    wide = recipe.activations in sixteen.NAMES
    if spec.checkpoint == "compressed" or not (wide and recipe.weights in vllm_words.UNSAID):
        asked["weights"] = sixteen.common(recipe.weights)
    if recipe.activations != "auto" and (wide or spec.kernel not in vllm_words.EMULATING):
        asked["activations"] = sixteen.common(recipe.activations)
    return asked


def _adapters(recipe: Recipe) -> dict[str, str]:
    """LoRA folders by the names that requests call them by: the folder's, numbered where two are called so."""
    named: dict[str, str] = {}
    for path in recipe.lora:
        name = Path(path).name
        named[name if name not in named else f"{name}-{len(named)}"] = path
    return named


def _speculation(draft: Draft) -> dict[str, Any]:
    told: dict[str, Any] = {"method": DRAFTS.get(draft.method, draft.method), "num_speculative_tokens": draft.tokens}
    return told if draft.model is None else {**told, "model": draft.model}


def _given(args: tuple[str, ...], *spellings: str) -> str | None:
    """The value of a flag among more arguments, the last where it is given twice."""
    found = None
    for number, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name in spellings:
            found = value if equals else next(iter(args[number + 1 : number + 2]), None)
    return found
