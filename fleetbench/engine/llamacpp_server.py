"""The body of the embedded engine's process: llama.cpp's HTTP server out of the xllamacpp wheel.

`python -m fleetbench.engine.llamacpp_server SPEC.json`; the specification is llamacpp.py's.
"""

from __future__ import annotations

import json
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xllamacpp

LOG_LEVEL = 4  # the first at which llama.cpp says what its cache and its tensors are
LOOPBACK = "127.0.0.1"


def params(spec: dict[str, Any]) -> Any:
    """llama.cpp's parameters; its context is shared out among the slots."""
    wanted = xllamacpp.CommonParams()
    wanted.model.path = spec["model_path"]
    wanted.model_alias = {spec["alias"]}
    wanted.hostnames = [LOOPBACK]
    wanted.port = spec["port"]
    wanted.n_parallel = spec["slots"]
    wanted.n_ctx = spec["slots"] * spec["context_tok"]
    wanted.kv_unified = False
    wanted.cont_batching = True
    wanted.cpuparams.n_threads = spec["threads"]
    wanted.cpuparams_batch.n_threads = spec["threads"]
    wanted.n_gpu_layers = 0
    wanted.sampling.seed = spec["seed"]
    wanted.cache_type_k = cache_type(spec["kv_k"])
    wanted.cache_type_v = cache_type(spec["kv_v"])
    wanted.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    keep_nothing(wanted)
    wanted.endpoint_metrics = True
    wanted.endpoint_slots = True
    wanted.endpoint_props = True
    wanted.ui = False
    wanted.fit_params = False
    wanted.warmup = True
    wanted.offline = True
    wanted.use_color = False
    wanted.verbosity = LOG_LEVEL
    return wanted


def cache_type(name: str) -> Any:
    return getattr(xllamacpp.ggml_type, f"GGML_TYPE_{name.upper()}")


def keep_nothing(wanted: Any) -> None:
    """No state from one request to the next, unless a request asks for it."""
    wanted.cache_prompt = False
    wanted.cache_idle_slots = False
    wanted.cache_ram_mib = 0
    wanted.n_ctx_checkpoints = 0


def main() -> int:
    spec = json.loads(Path(sys.argv[1]).read_text())
    sys.stderr.write(f"llamacpp_server: xllamacpp {version('xllamacpp')}\n")
    sys.stderr.flush()
    try:
        server = xllamacpp.Server(params(spec))
    except RuntimeError as error:
        sys.stderr.write(f"llamacpp_server: {error}\n")
        return 1
    sys.stderr.write(f"llamacpp_server: serving at {server.listening_address}\n")
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
