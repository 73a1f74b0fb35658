"""Runs a piece of generated Python where it can reach nothing, and ends it with all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Self

from fleetbench_collectors.quality.code import proof, seccomp
from fleetbench_collectors.quality.code.ending import Ending
from fleetbench_collectors.quality.code.refused import SandboxRefusedError

_HERE = Path(__file__).resolve().parent
_MIB = 1 << 20
_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_PACKAGES = ("site-packages", "dist-packages")
_ENVIRONMENT = {"PYTHONHASHSEED": "0"}
_END_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use: `memory_bytes` of address space, `reply_bytes` of results, no further process, no file."""

    cpu_s: int = 2
    wall_s: int = 10
    memory_bytes: int = 256 * _MIB
    reply_bytes: int = 256 * 1024
    open_files: int = 16

    def as_resources(self) -> dict[str, tuple[int, int]]:
        """Soft and hard, by the names of `setrlimit`."""
        nothing = ("RLIMIT_NPROC", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE")
        return {
            "RLIMIT_CPU": (self.cpu_s, self.cpu_s + 1),  # the soft one's signal says which limit it was
            "RLIMIT_AS": (self.memory_bytes, self.memory_bytes),
            "RLIMIT_NOFILE": (self.open_files, self.open_files),
            **dict.fromkeys(nothing, (0, 0)),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A way to run code that was shown to hold: made by `open`."""

    limits: Limits
    interpreter: str
    shown: tuple[str, ...]
    hidden: tuple[str, ...]
    system_calls: bytes = field(repr=False)

    @classmethod
    def open(cls, limits: Limits | None = None) -> Self:
        """Tries first to break out in every way that is to be kept shut.

        Raises:
            SandboxRefusedError: this machine gives no sandbox, or one that does not hold; the reason in a sentence.
        """
        machine = platform.machine()
        if sys.platform != "linux" or machine not in seccomp.MACHINES:
            raise SandboxRefusedError(f"it needs Linux on {' or '.join(seccomp.MACHINES)}, and this is {machine}")
        # Not a virtual environment's own one, which may be a copy that finds no library.
        interpreter = os.path.realpath(getattr(sys, "_base_executable"))  # noqa: B009  the type checker knows it not
        shown = _list_shown(interpreter)

        bare = cls(
            limits=limits or Limits(),
            interpreter=interpreter,
            shown=shown,
            hidden=_list_hidden(shown),
            system_calls=b"",
        )
        filtered = replace(bare, system_calls=seccomp.assemble(machine))
        proof.prove(bare.run, filtered.run)
        return filtered

    def run(self, code: str, entry: str, calls: Sequence[Sequence[Any]]) -> Ending:
        """Runs `code`, then `entry` with the arguments of each call; returns when nothing of it runs any more.

        Raises:
            SandboxRefusedError: the sandbox that was opened cannot be had any more.
        """
        request = json.dumps({"code": code, "entry": entry, "calls": calls}).encode()
        with _file_of(request) as asked, _pipe() as (replies, keep), _pipe() as (status, say):
            order = self._order(keep=keep.fileno(), status=say.fileno())
            jail = subprocess.Popen(
                [self.interpreter, "-I", "-S", str(_HERE / "jail.py"), json.dumps(order)],
                stdin=asked,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(keep.fileno(), say.fileno()),
                start_new_session=True,
                cwd="/",
                env={},
            )
            keep.close()
            say.close()
            try:
                return self._follow(replies, status)
            finally:
                jail.kill()
                jail.wait()
                _wait_for_all(replies, status)

    def _order(self, *, keep: int, status: int) -> dict[str, Any]:
        text = (_HERE / "inmate.py").read_text(encoding="utf-8")
        return {
            "owner": os.getpid(),
            "keep": keep,
            "status": status,
            "wall_s": self.limits.wall_s + 1,  # the deadline here comes first
            "shown": self.shown,
            "hidden": self.hidden,
            "limits": self.limits.as_resources(),
            "filter": self.system_calls.hex(),
            "command": [self.interpreter, "-S", "-s", "-P", "-B", "-X", "utf8", "-c", text, str(keep)],
            "environment": _ENVIRONMENT,
        }

    def _follow(self, replies: IO[bytes], status: IO[bytes]) -> Ending:
        deadline = time.monotonic() + self.limits.wall_s
        got, complete = _read(replies, deadline, self.limits.reply_bytes)
        if not complete:
            too_much = len(got) > self.limits.reply_bytes
            return Ending(replies=got, too_much=too_much, too_long=not too_much)
        said, complete = _read(status, deadline, self.limits.reply_bytes)
        if not complete:
            return Ending(replies=got, too_long=True)
        if not said:
            raise SandboxRefusedError("its first process ended without a word")
        end = json.loads(said)
        if "refused" in end:
            raise SandboxRefusedError(end["refused"])
        return Ending(replies=got, exit_code=end.get("exit"), signal=end.get("signal"))


def _list_shown(interpreter: str) -> tuple[str, ...]:
    """What a Python needs to start, the outer folders first, each once; links of the system stay links."""
    libpython = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
    standard = [
        os.path.realpath(path) for path in (sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED"))
    ]
    out: list[str] = []
    for path in (*_SYSTEM_LIBRARIES, *standard, interpreter, str(libpython)):
        if Path(path).exists() and not any(Path(path).is_relative_to(top) for top in out):
            out.append(path)
    return tuple(out)


def _list_hidden(shown: Sequence[str]) -> tuple[str, ...]:
    """The folders of installed packages: this one may be among them, and with it the right answers."""
    tops = [Path(path) for path in shown if not Path(path).is_symlink()]
    found = {path for top in tops for name in _PACKAGES for path in (*top.glob(name), *top.glob(f"python3*/{name}"))}
    return tuple(str(path) for path in sorted(found) if path.is_dir())


@contextlib.contextmanager
def _file_of(content: bytes) -> Iterator[int]:
    """An unnamed file in memory: whoever never reads it cannot hold the writer up."""
    with os.fdopen(os.memfd_create("request"), "r+b") as file:
        file.write(content)
        file.flush()
        file.seek(0)
        yield file.fileno()


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as out, os.fdopen(writing, "wb", 0) as into:
        yield out, into


def _read(source: IO[bytes], deadline: float, most: int) -> tuple[bytes, bool]:
    """What comes until the end, and whether that was reached: not past the deadline, nor once above `most` bytes."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    got = bytearray()
    while len(got) <= most:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return bytes(got), False
        chunk = os.read(source.fileno(), 1 << 16)
        if not chunk:
            return bytes(got), True
        got += chunk
    return bytes(got), False


def _wait_for_all(*held: IO[bytes]) -> None:
    """Until every process that holds the other end is gone, which is all that there were."""
    deadline = time.monotonic() + _END_S
    for source in held:
        while not (end := _read(source, deadline, 1 << 20))[1]:
            if len(end[0]) <= 1 << 20:
                raise SandboxRefusedError(f"what ran in it did not end within {_END_S:g} s of being killed")
