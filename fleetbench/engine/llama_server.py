"""llama.cpp's `llama-server`: the program itself, wherever the node has it; with GPUs where the hardware has some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fleetbench.catalog import lookup
from fleetbench.engine import llamacpp, llamacpp_words
from fleetbench.engine.protocol import Ask, ColdStart, Command, LaunchError, LaunchSpec, Said, Sign

NAME = "llama-server"
ALL_LAYERS = "999"
DRAFTS = {"model": "draft-simple", "eagle3": "draft-eagle3", "mtp": "draft-mtp", "ngram": "ngram-simple"}
SIGNS = (
    Sign(
        cause="device",
        pattern=r"ggml_cuda_init: failed to initialize|invalid device: ",
        words="a device is not there",
    ),
    Sign(
        cause="arguments",
        pattern=r"error: invalid argument: |error while handling argument ",
        words="it does not know",
    ),
    Sign(cause="oom", pattern=r"cudaMalloc failed: out of memory", words="a GPU ran out of memory"),
)


class LlamaServer:
    """It keeps nothing between requests: neither prompts, nor slots, nor checkpoints of a context.

    Every flag is one that b10605 (2026-08-24, built and started with them) and b11549 have. What another build does not
    know ends it in a millisecond, with the flag's name.
    """

    name = NAME
    package: str | None = None
    program = "llama-server"
    version_argv = ("llama-server", "--version")
    health = "/health"
    asks = ("/props", "/slots", "/lora-adapters")
    reset: Ask | None = None
    metrics = ("llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total")
    signs: tuple[Sign, ...] = SIGNS

    def command(self, spec: LaunchSpec, version: str, folder: Path, port: int) -> Command:  # noqa: ARG002  no version differs
        llamacpp.refuse(NAME, spec, llamacpp.CACHES)
        argv = (self.program, *_model(spec), *_server(spec, port), *_compute(spec), *_nothing_kept(), *spec.args)
        return Command(argv=argv, env=dict.fromkeys(llamacpp.THREAD_LIMITS, str(spec.threads)))

    def requested(self, spec: LaunchSpec) -> dict[str, Any]:
        draft = spec.recipe.draft
        return {
            **llamacpp.requested(spec),
            "gpu_layers": "none" if _on_cpu(spec) else "all",
            "draft": DRAFTS.get(draft.method) if draft else "none",
            "lora": len(spec.recipe.lora),
        }

    def effective(self, said: Said) -> dict[str, Any]:
        told = said.answers
        adapters = told.get("/lora-adapters")
        return {
            **llamacpp_words.effective(said.log, told.get("/props"), told.get("/slots"), said.version),
            "gpu_layers": llamacpp_words.gpu_layers(said.log),
            "draft": llamacpp_words.draft(said.log),
            "lora": len(adapters) if isinstance(adapters, list) else None,
        }

    def cold(self, log: str) -> ColdStart:
        return llamacpp_words.cold(log)


def _model(spec: LaunchSpec) -> list[str]:
    recipe = spec.recipe
    argv = ["--model", str(spec.model_path), "--alias", spec.model_name]
    if "," in spec.model_name:
        raise LaunchError(NAME, "arguments", f"it splits the name {spec.model_name!r} at its commas", "")
    if recipe.lora:
        strange = [path for path in recipe.lora if not path.endswith(".gguf") or "," in path]
        if strange:
            reason = f"its LoRA adapters are GGUF files, with no comma in the path, not {strange[0]}"
            raise LaunchError(NAME, "unsupported", reason, "")
        argv += ["--lora", ",".join(recipe.lora)]
    if recipe.draft is not None:
        kind = DRAFTS.get(recipe.draft.method)
        if kind is None:
            raise LaunchError(NAME, "unsupported", f"it has no drafts by {recipe.draft.method}", "")
        argv += ["--spec-type", kind]
        length = "--spec-ngram-simple-size-m" if recipe.draft.method == "ngram" else "--spec-draft-n-max"
        argv += [length, str(recipe.draft.tokens)]
        if recipe.draft.model is not None:
            argv += ["--spec-draft-model", recipe.draft.model]
    return argv


def _server(spec: LaunchSpec, port: int) -> list[str]:
    return [
        *("--host", "127.0.0.1", "--port", str(port), "--metrics", "--slots", "--props", "--no-ui", "--offline"),
        *("--log-colors", "off", "--log-prefix", "--log-timestamps", "--log-verbosity", "4"),
        *("--parallel", str(spec.slots), "--ctx-size", str(spec.slots * spec.context_tok), "--no-kv-unified"),
        *("--cont-batching", "--seed", str(spec.seed % llamacpp.SEEDS)),
    ]


def _compute(spec: LaunchSpec) -> list[str]:
    """Its context is shared out among the slots; nothing is fitted to the memory behind one's back."""
    kv, parallel = spec.recipe.kv, spec.parallel
    if parallel.dp > 1:
        raise LaunchError(NAME, "unsupported", "it serves one replica: dp is 1", "")
    split = "row" if parallel.tp > 1 else "layer" if parallel.pp > 1 else "none"
    gpus = ["--gpu-layers", "0"] if _on_cpu(spec) else ["--gpu-layers", ALL_LAYERS, "--split-mode", split]
    return [
        *gpus,
        *("--cache-type-k", kv.k, "--cache-type-v", kv.v, "--flash-attn", "on", "--fit", "off", "--warmup"),
        *("--threads", str(spec.threads), "--threads-batch", str(spec.threads)),
    ]


def _on_cpu(spec: LaunchSpec) -> bool:
    hardware = lookup.gpu_info(spec.hardware)
    return hardware is not None and hardware.vendor == "cpu"


def _nothing_kept() -> list[str]:
    return ["--no-cache-prompt", "--no-cache-idle-slots", "--cache-ram", "0", "--ctx-checkpoints", "0"]
