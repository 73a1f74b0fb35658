"""Why an engine ended, from its exit status, its log and the kernel's count of memory kills."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from fleetbench.engine.guarded import Exit
from fleetbench.engine.protocol import Cause

TAIL_BYTES = 65_536

SIGNS: tuple[tuple[Cause, re.Pattern[str]], ...] = (
    ("port", re.compile(r"couldn't bind|address already in use", re.IGNORECASE)),
    ("missing_file", re.compile(r"failed to open GGUF file .*No such file", re.IGNORECASE)),
    (
        "oom",
        re.compile(r"failed to allocate|unable to allocate|bad_alloc|out of memory|MemoryError", re.IGNORECASE),
    ),
    ("bad_model", re.compile(r"error loading model|invalid magic|failed to load model", re.IGNORECASE)),
)
WORDS: dict[Cause, str] = {
    "port": "its port is taken or not allowed",
    "missing_file": "the model file is missing",
    "oom": "it ran out of memory",
    "bad_model": "it cannot load the model file",
}
PREFIX = re.compile(r"^\d+\.\d\d\.\d{3}\.\d{3} [A-Z] ")


def oom_kills() -> int:
    """Processes that the kernel killed for memory since boot; 0 where it does not say."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def tail(log: Path, lines: int | None = None) -> str:
    """The log's last lines, at most 64 KiB, control characters replaced; empty where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    kept = text.splitlines()[-lines if lines else None :]
    return "\n".join("".join(c if c.isprintable() else "\ufffd" for c in line.expandtabs()) for line in kept)


def explain(ended: Exit, log_tail: str, *, memory_kills: int) -> tuple[Cause, str]:
    """What happened, as one word and as one sentence.

    Args:
        ended: how the process ended.
        log_tail: the last lines of its log.
        memory_kills: processes that the kernel killed for memory while it lived.
    """
    if ended.cause == "stopped":
        return "stopped", "it was stopped"
    if ended.code is None:
        return "crashed", f"it was lost with its guard ({ended.cause})"
    if ended.code == -signal.SIGKILL and memory_kills:
        return "oom", "the kernel killed it for memory (SIGKILL); give it fewer slots or a shorter context"
    for cause, sign in SIGNS:
        line = next((line for line in reversed(log_tail.splitlines()) if sign.search(line)), None)
        if line is not None and ended.code:
            return cause, f"{WORDS[cause]}: {PREFIX.sub('', line)}"
    if ended.code < 0:
        return "crashed", f"it was killed by {signal_name(-ended.code)}"
    return "crashed", f"it exited with status {ended.code}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
