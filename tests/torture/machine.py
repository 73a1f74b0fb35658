"""A pretended machine: processes with a host name, a process table, a network and some folders of their own (root)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

SWITCH = "sw0"
NETWORK = "10.99.0"
TOOLS = ("ip", "unshare", "nsenter")
OWN = ("--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc")
INIT = Path(__file__).with_name("first.py")
UP_S = 30


def lacks() -> str | None:
    """Why this host cannot pretend to be several machines; None where it can."""
    if os.geteuid() != 0:
        return "it needs root"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"there is no {', '.join(missing)} (apt-get install iproute2 util-linux)"
    tried = subprocess.run(
        ["unshare", *OWN, "ip", "link", "add", SWITCH, "type", "bridge"], capture_output=True, check=False
    )
    return f"namespaces cannot be made here: {tried.stderr.decode().strip()}" if tried.returncode else None


def apart(command: Sequence[str]) -> list[str]:
    """The command in a world of its own: what it leaves behind ends with it, and it sees nobody else's processes."""
    return ["unshare", *OWN, "--", *command]


def make_switch() -> None:
    """What the machines' cables end in; in a network of the harness's own."""
    _ip("link", "set", "lo", "up")
    _ip("link", "add", SWITCH, "type", "bridge")
    _ip("addr", "add", f"{NETWORK}.254/24", "dev", SWITCH)
    _ip("link", "set", SWITCH, "up")


@dataclass(kw_only=True)
class Machine:
    """One that is switched on; hidden: folders of the host that are empty and its own there, with their sizes."""

    name: str
    number: int
    folder: Path
    hidden: Mapping[Path, str] = field(default_factory=dict)
    _init: subprocess.Popen[bytes] | None = None
    pid: int = 0

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    @property
    def scratch(self) -> Path:
        """Its disk: caches and temporary files."""
        return self.folder / "scratch"

    def switch_on(self) -> None:
        for folder in (self.folder / "home", self.scratch):
            folder.mkdir(parents=True, exist_ok=True)
        mounts = {str(self.scratch): "160m", "/run": "256m", **{str(path): size for path, size in self.hidden.items()}}
        order = json.dumps({"name": self.name, "mounts": mounts})
        own = ("--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net", "--mount-proc")
        self._init = subprocess.Popen(
            ["unshare", *own, "--", sys.executable, str(INIT), order], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._init.stdout is not None
        said = self._init.stdout.readline()
        if said != b"up\n":
            raise RuntimeError(f"machine {self.name} did not come up")
        self.pid = _child(self._init.pid)
        cable = f"c{self.number}"
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid))
        _ip("link", "set", cable, "master", SWITCH, "up")
        for words in (
            ("addr", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", f"{NETWORK}.254"),
        ):
            subprocess.run(["nsenter", "--target", str(self.pid), "--net", "ip", *words], check=True)

    def switch_off(self) -> None:
        """As by a power cut."""
        if self._init is not None:
            self._init.kill()
            self._init.wait()

    def cut(self) -> None:
        """Pull its cable: packets vanish without a word."""
        _ip("link", "set", f"c{self.number}", "down")

    def join(self) -> None:
        _ip("link", "set", f"c{self.number}", "up")

    def start(
        self, command: Sequence[str], environ: Mapping[str, str], out: IO[bytes], err: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """A process there; `inner` has its pid, for this one only waits for it."""
        return subprocess.Popen(
            ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--", *command],
            env={**os.environ, **environ, "HOME": str(self.folder / "home"), "TMPDIR": str(self.scratch)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )

    @property
    def table(self) -> str:
        """What tells its processes from those of the others."""
        return str(Path(f"/proc/{self.pid}/ns/pid").readlink())


def inner(process: subprocess.Popen[bytes]) -> int | None:
    """The pid, as the harness sees it, of what was started on a machine; None where it has ended."""
    try:
        return _child(process.pid)
    except (OSError, IndexError):
        return None


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
