from __future__ import annotations

import re

import pytest

from fleetbench.engine import endings, vllm_start
from tests.engine.test_vllm_words import read


@pytest.mark.parametrize(
    ("name", "cause", "words"),
    [
        ("flag", "arguments", "unrecognized arguments: --no-such-flag"),
        ("context", "arguments", r"max_model_len \(4096\) is greater than"),
        ("quantization-name", "arguments", "Unknown quantization method: nonsense"),
        ("no-folder", "missing_file", "Repo id must be in the form"),
        ("no-weights", "missing_file", "Cannot find any model weights"),
        ("no-config", "bad_model", "Invalid repository ID or local directory specified"),
        ("architecture", "bad_model", "does not recognize this architecture"),
        ("cut-short", "bad_model", "SafetensorError"),
        ("no-kernel", "unsupported", "Failed to find a kernel that can implement the WNA16"),
        ("static-fp8", "unsupported", "static_scaled_fp8_quant"),
        ("nvfp4", "unsupported", "MarlinNvFp4LinearKernel is not supported"),
        ("cache-room", "oom", "on kv cache allocation is less than requested memory"),
        ("port", "port", "Address already in use"),
        ("tp2", "device", "Not enough allowed NUMA nodes"),
    ],
)
def test_a_real_failure_has_its_cause_in_a_word_and_the_line_that_says_it(name: str, cause: str, words: str) -> None:
    found = endings.sign_in(read(f"failed-{name}"), vllm_start.SIGNS)
    assert found is not None
    assert found[0] == cause
    assert re.search(words, found[1])
    assert not re.search(r"pid=|\[\w+\.py:\d+\]", found[1])


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "oom"),
        ("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`", "oom"),
        ("ValueError: ... (40.0 GiB KV cache is needed, which is larger than the available KV cache memory", "oom"),
        ("ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired GPU memory", "oom"),
        ("ValueError: Selected backend X is not valid for this configuration. Reason: [...]", "unsupported"),
        ("ValueError: No valid attention backend found for cuda with ...", "unsupported"),
        ("RuntimeError: No CUDA GPUs are available", "device"),
        (
            "ValueError: Total number of attention heads (28) must be divisible by tensor parallel size (8).",
            "arguments",
        ),
        ("ValueError: LoRA rank 64 is greater than max_lora_rank 16.", "arguments"),
        ("OSError: You are trying to access a gated repo.", "missing_file"),
    ],
)
def test_lines_that_only_gpus_and_hubs_bring_are_known_from_the_sources(line: str, cause: str) -> None:
    found = endings.sign_in(f"(EngineCore pid=1) ERROR 11-24 10:00:00 [core.py:1] {line}\n", vllm_start.SIGNS)
    assert found is not None
    assert found[0] == cause


def test_the_phases_of_a_compiled_start_are_read() -> None:
    cold = vllm_start.cold(read("bf16"))
    assert cold.read_s == pytest.approx(0.01)
    assert cold.load_s is not None
    assert cold.compile_s is not None
    assert cold.compile_s > 1
    assert cold.first_token_s is None


def test_on_a_gpu_reading_is_a_part_of_loading() -> None:
    log = (
        "(Worker_TP0 pid=1) INFO 11-24 10:00:00 [default_loader.py:501] Loading weights took 8.00 seconds\n"
        "(Worker_TP1 pid=2) INFO 11-24 10:00:00 [default_loader.py:501] Loading weights took 9.00 seconds\n"
        "(Worker_TP0 pid=1) INFO 11-24 10:00:01 [gpu_model_runner.py:5150] "
        "Model loading took 15.0 GiB memory and 11.500000 seconds\n"
        "(EngineCore pid=3) INFO 11-24 10:00:31 [core.py:402] "
        "init engine (profile, create kv cache, warmup model) took 29.50 s\n"
    )
    cold = vllm_start.cold(log)
    assert (cold.read_s, cold.load_s, cold.compile_s) == (9.0, 2.5, 29.5)


def test_a_log_that_says_nothing_has_no_phases() -> None:
    cold = vllm_start.cold("")
    assert (cold.read_s, cold.load_s, cold.compile_s) == (None, None, None)
