from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import endings
from fleetbench.engine.guarded import Exit, ExitCause

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
