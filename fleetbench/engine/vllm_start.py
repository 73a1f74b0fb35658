"""What vLLM's log says of a start: how long its phases took, or why it failed."""

from __future__ import annotations

import re

from fleetbench.engine.protocol import ColdStart, Sign

READ = re.compile(r"Loading weights took ([\d.]+) seconds")
LOADED = re.compile(r"Model loading took [\d.]+ GiB memory and ([\d.]+) seconds")
BUILT = re.compile(r"Initializing model took ([\d.]+) seconds")
ROUNDED = re.compile(r"Online quantization as part of model loading took ([\d.]+) seconds")
WARMED = re.compile(r"init engine \(profile, create kv cache, warmup model\) took ([\d.]+) s")


def cold(log: str) -> ColdStart:
    """Phases of a start, seconds, of the slowest worker.

    On a GPU, loading is told as a whole, of which reading is a part; on a CPU only its parts are. Compiling includes
    the profile run, the room for the cache and the capture of graphs.
    """
    read = _slowest(READ, log)
    whole = _slowest(LOADED, log)
    parts = [seconds for pattern in (BUILT, ROUNDED) if (seconds := _slowest(pattern, log)) is not None]
    load = max(0.0, whole - (read or 0.0)) if whole is not None else (sum(parts) if parts else None)
    return ColdStart(read_s=read, load_s=load, compile_s=_slowest(WARMED, log))


def _slowest(pattern: re.Pattern[str], log: str) -> float | None:
    return max((float(seconds) for seconds in pattern.findall(log)), default=None)


SIGNS: tuple[Sign, ...] = (
    Sign(
        cause="arguments",
        pattern=r"vllm: error: |Unknown quantization method: |is greater than the derived max_model_len"
        r"|Unknown attention backend|LoRA rank \d+ is greater than max_lora_rank"
        r"|must be divisible by tensor parallel size",
        words="it does not take an argument",
    ),
    Sign(
        cause="bad_model",
        pattern=r"Invalid repository ID or local directory specified"
        r"|does not recognize this architecture|Model architectures .* are not supported|SafetensorError"
        r"|requires you to execute the configuration file|trust_remote_code=True|is not a valid JSON file",
        words="it cannot read the checkpoint",
    ),
    Sign(
        cause="missing_file",
        pattern=r"Cannot find any model weights with|Repo id must be in the form|gated repo"
        r"|Access to model .* is restricted"
        r"|outgoing traffic has been disabled|couldn't connect to .*huggingface",
        words="files of the model are missing here",
    ),
    Sign(
        cause="oom",
        pattern=r"torch\.OutOfMemoryError|CUDA out of memory|HIP out of memory|No available memory for the cache blocks"
        r"|KV cache is needed, which is larger than the available"
        r"|larger than the maximum number of tokens that can be stored"
        r"|Free memory on device .* is less than desired|on kv cache allocation is less than requested memory",
        words="there is not enough memory; give it fewer slots, a shorter context, more GPUs or narrower weights",
    ),
    Sign(
        cause="unsupported",
        pattern=r"Failed to find a kernel that can implement|kernel \w+ is not supported|RuntimeError: _C::\w+"
        r"|No valid attention backend found|Selected backend .* is not valid for this configuration"
        r"|Minimum capability: |quantization is currently not supported|is not supported for quantization method"
        r"|Unsupported head size",
        words="it has no kernel for this here",
    ),
    Sign(
        cause="device",
        pattern=r"Not enough allowed NUMA nodes to bind threads|No CUDA GPUs are available|Failed to infer device type"
        r"|World size .* is larger than the number of available GPUs",
        words="there are not enough devices for this",
    ),
)
"""Lines of a start that failed, the surest first; seen with 0.32.0 on a CPU, or as its sources write them."""
