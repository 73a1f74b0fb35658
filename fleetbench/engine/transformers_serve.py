"""`transformers serve`: the reference that other engines are held against, and no fast one; it has no metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fleetbench.catalog import lookup
from fleetbench.engine.protocol import Ask, ColdStart, Command, LaunchError, LaunchSpec, Said, Sign

NAME = "transformers"
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "f16": "float16", "fp32": "float32", "f32": "float32"}
BITSANDBYTES = {"nf4": "bnb-4bit", "int8": "bnb-8bit"}
SEEDS = 2**32
BLOCK_TOK = 32
"""Tokens of a cache block. Without a count of blocks the cache of a 2 M-parameter model took 9.5 GB of a machine's 24,
and the first request 24 s; with as many as may be filled 0.6 GB and 1 s (5.24.0 on two CPU cores, 2026-11-24)."""
THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
BATCHED = re.compile(r"\[Request received\] Model: .*, CB: (True|False)")
LOADED = re.compile(r"Loading weights: 100%.*?\[(?:(\d+):)?(\d+):(\d+)<")
DTYPE_REFUSED = Sign(
    cause="unsupported", pattern=r"ValueError: Unsupported (dtype|quantization|attention)", words="it refuses"
)
NOT_WHOLE = Sign(
    cause="runtime",
    pattern=r"Missing dependencies for serving|requires .*(accelerate|bitsandbytes|kernels)",
    words="its installation is not whole (pip install 'transformers[serving]' accelerate)",
)


class TransformersServe:
    """Read at 5.24.0 and run at it on a CPU; the model's name in requests is its path, and no other is taken.

    It says little of what it runs: the model, whether that is loaded, and whether requests are batched.
    """

    name = NAME
    package = "transformers"
    program = "transformers"
    version_argv = ("transformers", "version")
    health = "/health"
    asks = ("/v1/models",)
    reset: Ask | None = None
    metrics: tuple[str, ...] = ()
    signs: tuple[Sign, ...] = (DTYPE_REFUSED, NOT_WHOLE)

    def command(self, spec: LaunchSpec, version: str, folder: Path, port: int) -> Command:  # noqa: ARG002  one form
        _refuse(spec)
        path = str(spec.model_path)
        argv = [self.program, "serve", path, "--host", "127.0.0.1", "--port", str(port), "--log-level", "info"]
        argv += ["--device", "cpu" if _on_cpu(spec) else "auto", "--dtype", _dtype(spec)]
        argv += ["--default-seed", str(spec.seed % SEEDS)]
        if spec.slots > 1:
            blocks = spec.slots * (-(-spec.context_tok // BLOCK_TOK) + 1)
            argv += ["--continuous-batching", "--cb-block-size", str(BLOCK_TOK), "--cb-num-blocks", str(blocks)]
        if spec.checkpoint == "source" and spec.recipe.weights in BITSANDBYTES:
            argv += ["--quantization", BITSANDBYTES[spec.recipe.weights]]
        env = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", **dict.fromkeys(THREAD_LIMITS, str(spec.threads))}
        return Command(argv=(*argv, *spec.args), env=env, alias=path)

    def requested(self, spec: LaunchSpec) -> dict[str, Any]:
        return {"model": str(spec.model_path), "loaded": True, "continuous_batching": spec.slots > 1}

    def effective(self, said: Said) -> dict[str, Any]:
        models = said.answers.get("/v1/models")
        listed = models.get("data") if isinstance(models, dict) else None
        served = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
        status = served.get("status")
        batched = BATCHED.findall(said.log)
        return {
            "version": said.version,
            "model": served.get("id"),
            "loaded": status.get("value") == "loaded" if isinstance(status, dict) else None,
            "continuous_batching": batched[-1] == "True" if batched else None,
        }

    def cold(self, log: str) -> ColdStart:
        """load_s: of the weights, in whole seconds, as its bar of progress says."""
        found = LOADED.search(log)
        if found is None:
            return ColdStart()
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return ColdStart(load_s=float(hours * 3600 + minutes * 60 + seconds))


def _refuse(spec: LaunchSpec) -> None:
    recipe, parallel = spec.recipe, spec.parallel
    lacks = {
        "no GGUF file here: prepare the model's own folder": spec.checkpoint == "gguf",
        "no weights without a file": spec.dummy,
        "no tensor, pipeline or data parallelism": parallel.gpus > 1,
        "no option for LoRA adapters": bool(recipe.lora),
        "no option for drafts": recipe.draft is not None,
        f"no cache format {recipe.kv}: its cache is as wide as the model": bool(
            {recipe.kv.k, recipe.kv.v} - {"auto", *DTYPES} or recipe.kv.k != recipe.kv.v
        ),
    }
    for lack, asked in lacks.items():
        if asked:
            raise LaunchError(NAME, "unsupported", f"it has {lack}", "")
    narrow = recipe.weights not in DTYPES
    if spec.checkpoint == "source" and narrow and recipe.weights not in BITSANDBYTES:
        reason = f"it does not make {recipe.weights} of 16-bit weights while it loads them: prepare a checkpoint"
        raise LaunchError(NAME, "unsupported", reason, "")


def _on_cpu(spec: LaunchSpec) -> bool:
    hardware = lookup.gpu_info(spec.hardware)
    return hardware is not None and hardware.vendor == "cpu"


def _dtype(spec: LaunchSpec) -> str:
    for name in (spec.recipe.weights, spec.recipe.activations):
        if name in DTYPES:
            return DTYPES[name]
    return "auto"
