"""Why an engine ended, from its exit status, its log and the kernel's count of memory kills."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from fleetbench.engine.guarded import Exit
from fleetbench.engine.protocol import Cause, Sign

TAIL_BYTES = 262_144
LINE_CHARACTERS = 2_000
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""As a process is killed, and as a container's client tells it of what runs inside."""

SHARED: tuple[Sign, ...] = (
    Sign(
        cause="port",
        pattern=r"couldn't bind|address already in use|\bEADDRINUSE\b|port \d+ is (already )?in use",
        words="its port is taken or not allowed",
    ),
    Sign(cause="disk", pattern=r"no space left on device|disk quota exceeded|\bENOSPC\b", words="a disk is full"),
    Sign(
        cause="missing_file",
        pattern=r"failed to open GGUF file .*No such file",
        words="the model file is missing",
    ),
    Sign(
        cause="runtime",
        pattern=r"guard: cannot run |executable file not found in \$PATH|no such image|image not known"
        r"|cannot connect to the docker daemon|connecting to the docker daemon|FATAL: .*(container|image)",
        words="what should run it is missing or does not answer",
    ),
    Sign(
        cause="arguments",
        pattern=r"unrecognized arguments|no such option|unknown (argument|option)|invalid argument: -|invalid choice: "
        r"|expected (one|at least one|\d+) arguments?$|the following arguments are required|ambiguous option"
        r"|error while handling argument",
        words="it does not know an argument",
    ),
    Sign(
        cause="oom",
        pattern=r"CUDA out of memory|HIP out of memory|XPU out of memory|(CUDA|HIP) error: out of memory"
        r"|torch\.(cuda\.)?OutOfMemoryError|cudaErrorMemoryAllocation|CUBLAS_STATUS_ALLOC_FAILED"
        r"|DefaultCPUAllocator: |can't allocate memory|cannot allocate memory|failed to allocate|unable to allocate"
        r"|bad_alloc|(?<!running )(?<!avoid )(?<!cause )out of memory|MemoryError|insufficient shared memory",
        words="it ran out of memory",
    ),
    Sign(
        cause="device",
        pattern=r"CUDA driver version is insufficient|no CUDA GPUs are available|found no NVIDIA driver"
        r"|no CUDA-capable device|no HIP GPUs are available|invalid device ordinal|CUDA-capable device\(s\) is/are busy"
        r"|could not select device driver|unresolvable CDI devices|nvidia-container-cli: |libcuda\.so\.1: cannot open"
        r"|failed to infer device type|CUDA unknown error|/dev/kfd: ",
        words="a device is not there, not idle, or its driver is too old",
    ),
    Sign(
        cause="unsupported",
        pattern=r"no kernel image is available|invalid device function|hipErrorNoBinaryForGpu"
        r"|device kernel image is invalid"
        r"|(Value|NotImplemented|Runtime|Assertion)Error: .*(not supported|unsupported|does not support)",
        words="it has no kernel for this",
    ),
    Sign(
        cause="runtime",
        pattern=r"ModuleNotFoundError|No module named |error while loading shared libraries"
        r"|docker: Error response from daemon|exec format error",
        words="its installation is not whole",
    ),
    Sign(
        cause="bad_model",
        pattern=r"error loading model|invalid magic|failed to load model|SafetensorError|not a valid JSON file"
        r"|Error while deserializing header|Unrecognized model in |size mismatch for "
        r"|does not appear to have a file named",
        words="it cannot load the model file",
    ),
    Sign(cause="missing_file", pattern=r"FileNotFoundError|No such file or directory: ", words="a file is missing"),
)
"""Lines that several engines share, the surest first.

Sources: llama.cpp's and xllamacpp's messages, as tests/engine raises them; those of PyTorch, argparse, click and docker
from general knowledge where no test raises them.
"""
PREFIX = re.compile(
    r"^(?:\d+\.\d\d\.\d{3}\.\d{3} [A-Z] "
    r"|(?:\(\w+ pid=\d+\) )?(?:[A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] )?)"
)
"""What llama.cpp and vLLM write before a message: when, which process, how grave, from which line."""


def oom_kills() -> int:
    """Processes that the kernel killed for memory since boot; 0 where it does not say."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def tail(log: Path, lines: int | None = None) -> str:
    """The log's last lines, at most 256 KiB, control characters replaced; empty where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    kept = text.splitlines()[-lines if lines else None :]
    return "\n".join("".join(c if c.isprintable() else "\ufffd" for c in line.expandtabs()) for line in kept)


def explain(ended: Exit, log_tail: str, *, memory_kills: int, signs: Iterable[Sign] = ()) -> tuple[Cause, str]:
    """What happened, as one word and as one sentence.

    Args:
        ended: how the process ended.
        log_tail: the last lines of its log.
        memory_kills: processes that the kernel killed for memory while it lived.
        signs: the engine's own, which come before those that all share.
    """
    if ended.cause == "stopped":
        return "stopped", "it was stopped"
    if ended.code is None:
        return "crashed", f"it was lost with its guard ({ended.cause})"
    if ended.code in KILLED and memory_kills:
        return "oom", "the kernel killed it for memory (SIGKILL); give it fewer slots or a shorter context"
    if ended.code and (read := sign_in(log_tail, signs)) is not None:
        return read
    if ended.code < 0:
        return "crashed", f"it was killed by {signal_name(-ended.code)}"
    return "crashed", f"it exited with status {ended.code}"


def sign_in(log_tail: str, signs: Iterable[Sign] = ()) -> tuple[Cause, str] | None:
    """The first sign that has a line in the log, by its last such line; None where none has."""
    lines = [line[:LINE_CHARACTERS] for line in log_tail.splitlines()]
    for sign in (*signs, *SHARED):
        pattern = _compiled(sign.pattern)
        line = next((line for line in reversed(lines) if pattern.search(line)), None)
        if line is not None:
            return sign.cause, f"{sign.words}: {PREFIX.sub('', line).strip()}"
    return None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
