from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import endings
from fleetbench.engine.guarded import Exit, ExitCause
from fleetbench.engine.protocol import Sign

PORT = "0.00.007.759 E srv         start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 80"
MISSING = "0.00.005.854 E gguf_init_from_file: failed to open GGUF file 'x.gguf' (No such file or directory)"
CORRUPT = "0.00.004.917 E llama_model_load: error loading model: tensor 'a' data is not within the file bounds"
MEMORY = "0.00.010.000 E ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 1"


def ended(code: int | None, cause: ExitCause = "exited") -> Exit:
    return Exit(code=code, cause=cause, clean=True)


@pytest.mark.parametrize(
    ("code", "log", "cause", "sentence"),
    [
        (1, PORT, "port", "its port is taken or not allowed: srv         start: couldn't bind"),
        (1, f"{MISSING}\n{CORRUPT}", "missing_file", "the model file is missing: gguf_init"),
        (1, f"{CORRUPT}\nE failed to load model", "bad_model", "it cannot load the model file: E failed"),
        (1, f"{MEMORY}\n{CORRUPT}", "oom", "it ran out of memory: ggml_backend"),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'", "oom", "it ran out of memory"),
        (-6, "", "crashed", "it was killed by SIGABRT"),
        (-9, "", "crashed", "it was killed by SIGKILL"),
        (-64, "", "crashed", "it was killed by SIGRTMAX"),
        (-99, "", "crashed", "it was killed by signal 99"),
        (3, "", "crashed", "it exited with status 3"),
        (0, PORT, "crashed", "it exited with status 0"),
    ],
)
def test_an_ending_has_a_cause_and_a_sentence(code: int, log: str, cause: str, sentence: str) -> None:
    why, text = endings.explain(ended(code), log, memory_kills=0)
    assert why == cause
    assert text.startswith(sentence)


def test_a_kill_while_the_kernel_killed_for_memory_is_out_of_memory() -> None:
    assert endings.explain(ended(-9), "", memory_kills=1)[0] == "oom"
    assert endings.explain(ended(-11), "", memory_kills=1)[0] == "crashed"


def test_what_was_stopped_did_not_crash() -> None:
    assert endings.explain(ended(-15, "stopped"), PORT, memory_kills=0) == ("stopped", "it was stopped")


def test_what_nobody_saw_end_was_lost() -> None:
    assert endings.explain(ended(None, "guard_lost"), "", memory_kills=0)[0] == "crashed"


def test_a_missing_log_has_an_empty_tail(tmp_path: Path) -> None:
    assert endings.tail(tmp_path / "none") == ""


@given(st.binary(max_size=300), st.integers(1, 5))
def test_any_log_has_a_printable_tail_of_few_lines(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, lines: int
) -> None:
    log = tmp_path_factory.getbasetemp() / "any.log"
    log.write_bytes(content)
    kept = endings.tail(log, lines).split("\n")
    assert len(kept) <= lines
    assert all(line.isprintable() for line in kept)


def test_a_long_log_is_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "long"
    log.write_text("x" * 1_000_000 + "\nlast\n")
    assert endings.tail(log, 1) == "last"
    assert len(endings.tail(log)) <= endings.TAIL_BYTES


SHARED_LINES = [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB", "oom"),
    ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2 GiB", "oom"),
    ("RuntimeError: CUDA error: out of memory", "oom"),
    ("RuntimeError: [enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory", "oom"),
    ("OSError: [Errno 12] Cannot allocate memory", "oom"),
    ("RuntimeError: DataLoader worker is killed by signal: Bus error. insufficient shared memory (shm)", "oom"),
    ("OSError: [Errno 28] No space left on device", "disk"),
    ("OSError: [Errno 98] Address already in use", "port"),
    ("ModuleNotFoundError: No module named 'vllm'", "runtime"),
    ("/opt/x: error while loading shared libraries: libcudart.so.12: cannot open shared object file", "runtime"),
    ("guard: cannot run /opt/vllm/bin/vllm: No such file or directory", "runtime"),
    ("docker: Error response from daemon: No such image: vllm@sha256:0", "runtime"),
    ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "runtime"),
    ('docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].', "device"),
    ("Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=0", "device"),
    ("vllm: error: unrecognized arguments: --no-such", "arguments"),
    ("launch_server.py: error: argument --kv-cache-dtype: invalid choice: 'fp3' (choose from 'auto')", "arguments"),
    ("Error: No such option: --no-such", "arguments"),
    ("RuntimeError: The NVIDIA driver on your system is too old. CUDA driver version is insufficient", "device"),
    ("RuntimeError: No CUDA GPUs are available", "device"),
    ("RuntimeError: No HIP GPUs are available", "device"),
    ("RuntimeError: CUDA error: invalid device ordinal", "device"),
    ("RuntimeError: CUDA error: no kernel image is available for execution on the device", "unsupported"),
    ("NotImplementedError: FP8 attention is not supported on this platform", "unsupported"),
    ("safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge", "bad_model"),
    ("ValueError: Unrecognized model in /models/x. Should have a `model_type` key", "bad_model"),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/models/x/config.json'", "missing_file"),
]


@pytest.mark.parametrize(("line", "cause"), SHARED_LINES)
def test_a_known_line_has_its_cause_wherever_it_stands(line: str, cause: str) -> None:
    log = f"INFO starting\n{line}\n" + "  File x, line 1\n" * 50 + "RuntimeError: Engine core initialization failed"
    why, text = endings.explain(ended(1), log, memory_kills=0)
    assert why == cause
    assert text.endswith(line)


@pytest.mark.parametrize(
    "line",
    [
        "INFO If you are running out of memory, consider decreasing gpu_memory_utilization",
        "WARNING set this to avoid out of memory errors",
        "INFO 127.0.0.1 GET /health 200 OK",
    ],
)
def test_advice_in_a_log_is_no_cause(line: str) -> None:
    assert endings.explain(ended(1), line, memory_kills=0) == ("crashed", "it exited with status 1")


def test_an_engines_own_sign_comes_first() -> None:
    own = Sign(cause="device", pattern="out of MEMORY", words="busy")
    assert endings.explain(ended(1), "CUDA out of memory", memory_kills=0, signs=[own]) == (
        "device",
        "busy: CUDA out of memory",
    )


@pytest.mark.parametrize(
    "prefix",
    [
        "(EngineCore pid=2233) ERROR 11-24 15:44:17 [core.py:1510] ",
        "(Worker_TP0 pid=1) ERROR 11-24 15:44:17 [v1/worker.py:9] ",
        "(APIServer pid=1) ",
        "ERROR 11-24 15:44:17 [core.py:1510] ",
        "0.00.007.759 E ",
        "",
    ],
)
def test_what_stands_before_a_message_is_not_in_the_sentence(prefix: str) -> None:
    line = "OSError: [Errno 28] No space left on device"
    assert endings.sign_in(prefix + line) == ("disk", f"a disk is full: {line}")


def test_a_container_killed_for_memory_ran_out_of_it() -> None:
    assert endings.explain(ended(137), "", memory_kills=1)[0] == "oom"
    assert endings.explain(ended(137), "", memory_kills=0)[0] == "crashed"


@given(st.text())
def test_any_log_is_searched_in_a_moment(log: str) -> None:
    assert endings.explain(ended(1), log, memory_kills=0)[0]


def test_one_endless_line_is_searched_in_a_moment() -> None:
    log = "ValueError: " + "not supporte " * 20_000
    assert endings.sign_in(log) is None
