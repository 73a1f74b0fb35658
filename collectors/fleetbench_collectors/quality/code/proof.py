"""The attempts to break out that a sandbox must withstand before any generated code is run in it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fleetbench_collectors.quality.code.ending import Ending
from fleetbench_collectors.quality.code.refused import SandboxRefusedError

Run = Callable[[str, str, Sequence[Sequence[Any]]], Ending]

_BREAK_OUT = """
import os, resource, socket
from pathlib import Path

def connect(kind, *address):
    with socket.socket(getattr(socket, kind)) as line:
        line.settimeout(1)
        line.connect(address[0] if kind == "AF_UNIX" else tuple(address))
    return "reached"

def read(path):
    return Path(path).read_text()

def look(path):
    return os.path.exists(path)

def write(folder):
    Path(folder, "written").write_text("")
    return "written"

def call(pid):
    os.kill(pid, 0)
    return "reached"

def fork():
    if os.fork() == 0:
        os._exit(0)
    return "forked"

def attempt(name, *arguments):
    try:
        return globals()[name](*arguments)
    except OSError as error:
        return "shut"

def who():
    return [os.getpid(), os.getuid(), os.geteuid()]

def ask(name, *arguments):
    return who() if name == "who" else attempt(name, *arguments)
"""
_OPEN_A_SOCKET = "import socket\ndef ask():\n    return socket.socket().fileno()\n"
_INMATE_PID = 2
"""The second process of a pid namespace of its own; nowhere else could it have this number."""


def prove(bare: Run, filtered: Run) -> None:
    """Tries it all without the filter of system calls, so that the namespaces are shown to hold alone; then that.

    Raises:
        SandboxRefusedError: which attempt went through, or why none could be made.
    """
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        secret = Path(folder, "secret")
        secret.write_text(secrets.token_hex(16))
        secret.chmod(0o644)
        Path(folder).chmod(0o777)
        package = str(Path(__file__).resolve().parent)
        attempts: list[tuple[str, list[Any]]] = [
            ("it reaches the network", ["connect", "AF_INET", *server.getsockname()]),
            ("it reads files of this machine", ["read", str(secret)]),
            ("it sees this program's files", ["attempt", "look", package]),
            ("it sees the processes of this machine", ["attempt", "look", "/proc/self"]),
            *((f"it writes to {place}", ["write", place]) for place in (folder, "/", "/usr/lib", os.devnull)),
            ("it signals processes of this machine", ["call", os.getppid() or 1 << 22]),
            ("it starts processes", ["fork"]),
        ]
        found = _values(bare(_BREAK_OUT, "ask", [["who"], *(arguments for _, arguments in attempts)]))
        if len(found) != len(attempts) + 1:
            raise SandboxRefusedError("the attempts to break out of it could not be made")
    pid, *uids = found[0]
    if pid != _INMATE_PID or 0 in uids:
        raise SandboxRefusedError("code in it is not alone or not without privileges")
    for (what, _), value in zip(attempts, found[1:], strict=True):
        if value not in ("shut", False):
            raise SandboxRefusedError(what)
    if filtered(_OPEN_A_SOCKET, "ask", [[]]).signal != signal.SIGSYS:
        raise SandboxRefusedError("the kernel does not hold to the filter of system calls")


def _values(ending: Ending) -> list[Any]:
    try:
        return [json.loads(line)["value"] for line in ending.replies.splitlines()]
    except (ValueError, KeyError) as error:
        raise SandboxRefusedError(
            f"the attempts to break out of it could not be made ({ending.replies[-200:]!r})"
        ) from error
