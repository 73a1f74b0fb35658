"""The fleet that is tortured: a head and some nodes, each a machine of its own, and the controllers of a run."""

from __future__ import annotations

import json
import random
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.machine import Machine, inner, make_switch

PORT = 6379
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    "FLEETBENCH_ALONE_S": "7",
    "RAY_scheduler_avoid_gpu_nodes": "0",
}
"""A node that is cut off is given up after about 13 s, where Ray takes 64 s; its launch ends itself before."""
WAREHOUSE_MB = 64
AGAIN_S = (0.0, 3.0)
"""How long a controller that was killed is not missed."""
MATRIX = """
name: torture
analysis: What is left of a run whatever dies?
models: [{{name: tiny, measure: [speed, quality]}}]
engines: llamacpp
hardware: [{hardware}]
reference: f16
recipes: [{recipes}]
load: {{batch: [1, 2], context: 16, output: 24, requests: {requests}, warmup: 1}}
repeats: {repeats}
quality: {{suite: embedded, items: 8}}
limits: {{launch: 60s, trial: 12s}}
"""
RECIPES = "f16 q8_0 q4_k q2_k q6_k q5_k q3_k"


@dataclass(kw_only=True)
class Said:
    """A command that ran: what it said is in out and err; code: its exit, None while it runs."""

    words: tuple[str, ...]
    out: Path
    err: Path
    code: int | None = None
    pid: int | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> bool:
        """Whether it was a submission that came to its end, and told of it."""
        return self.code == 2 or (self.code in (0, 1) and bool(self.out.read_bytes()))

    @property
    def last(self) -> str:
        lines = self.err.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


@dataclass(kw_only=True)
class Scene:
    """All of it; nodes: by kind, and whether the node sees the warehouse."""

    folder: Path
    seed: int
    nodes: tuple[tuple[str, bool], ...]
    head: Machine = field(init=False)
    machines: list[Machine] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    ups: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.head = Machine(name="head", number=1, folder=self.folder / "head")
        for number, (kind, shared) in enumerate(self.nodes, start=2):
            name = f"n{number}-{kind}"
            hidden = {} if shared else {self.warehouse: "4m"}
            self.machines.append(Machine(name=name, number=number, folder=self.folder / name, hidden=hidden))

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse"

    @property
    def address(self) -> str:
        return f"{self.head.address}:{PORT}"

    @property
    def everyone(self) -> list[Machine]:
        return [self.head, *self.machines]

    def kind_of(self, machine: Machine) -> str:
        return self.nodes[self.machines.index(machine)][0]

    def environ(self, machine: Machine) -> Mapping[str, str]:
        return {
            **QUICK,
            "RAY_TMPDIR": "/run",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "FLEETBENCH_CACHE": str(machine.scratch / "cache"),
            "FLEETBENCH_NODE": str(self.folder / "node.yaml"),
            "COLUMNS": "80",
            "OMP_NUM_THREADS": "1",
        }

    def begin(self, hardware: str, recipes: int, repeats: int, requests: int) -> None:
        """Switch everything on, and have all nodes join."""
        for folder in (self.warehouse, self.folder / "said"):
            folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={WAREHOUSE_MB}m", "none", str(self.warehouse)], check=True)
        token = self.folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        (self.folder / "node.yaml").touch()
        (self.folder / "matrix.yaml").write_text(
            MATRIX.format(
                hardware=hardware, recipes=", ".join(RECIPES.split()[:recipes]), repeats=repeats, requests=requests
            )
        )
        make_switch()
        for machine in self.everyone:
            machine.switch_on()
        self._keep_up(self.head, "--head", "--port", str(PORT))
        self.wait_up(self.head)
        for machine in self.machines:
            simulate = f"{self.kind_of(machine)}:8"
            self._keep_up(machine, "--address", self.address, "--simulate", simulate)
        for machine in self.machines:
            self.wait_up(machine)

    def end(self) -> None:
        self.stopping.set()
        for machine in self.everyone:
            machine.switch_off()
        for thread in self._threads:
            thread.join(timeout=10)
        shutil.copytree(self.warehouse, self.folder / "kept", dirs_exist_ok=True)
        subprocess.run(["umount", "--lazy", str(self.warehouse)], check=False)

    def command(self, machine: Machine, *words: str) -> tuple[subprocess.Popen[bytes], Said]:
        """Start `fleetbench WORDS` there."""
        with self._lock:
            stem = self.folder / "said" / f"{len(self.said):04d}-{machine.name}-{words[0]}"
            said = Said(words=words, out=stem.with_suffix(".out"), err=stem.with_suffix(".err"))
            said.out.touch()
            said.err.touch()
            self.said.append(said)
        command = [sys.executable, "-m", "fleetbench", *words]
        with said.out.open("wb") as out, said.err.open("wb") as err:
            process = machine.start(command, self.environ(machine), out, err)
        return process, said

    def submit(self, run: str, *options: str) -> tuple[subprocess.Popen[bytes], Said]:
        words = ("--run", run, "--address", self.address, "--warehouse", str(self.warehouse), *options)
        return self.command(self.head, "submit", str(self.folder / "matrix.yaml"), *words)

    def wait_up(self, machine: Machine, timeout_s: float = 400) -> None:
        """Until a `node up` there has said that it is."""
        until = time.monotonic() + timeout_s
        while not any(self._is_up(said) for said in self._ups(machine)):
            if time.monotonic() > until:
                words = [said.err.read_text(errors="replace") for said in self._ups(machine)]
                raise RuntimeError(f"{machine.name} did not come up: {words}")
            time.sleep(0.1)

    def _ups(self, machine: Machine) -> list[Said]:
        return [said for said in self.said if f"-{machine.name}-node" in said.out.name]

    @staticmethod
    def _is_up(said: Said) -> bool:
        return said.code is None and " is up" in said.out.read_text(errors="replace")

    def _keep_up(self, machine: Machine, *where: str) -> None:
        """As systemd does: where a node has died it is started again."""

        def keep() -> None:
            while not self.stopping.is_set():
                self.ups[machine.name] = self.ups.get(machine.name, 0) + 1
                process, said = self.command(machine, "node", "up", *where, "--node-ip", machine.address, "--block")
                said.code = process.wait()
                self.stopping.wait(1.0)

        thread = threading.Thread(target=keep, daemon=True)
        self._threads.append(thread)
        thread.start()


@dataclass(kw_only=True)
class Drivers:
    """The controllers of one run, one after the other, until one of them ends it."""

    scene: Scene
    run: str
    ended: threading.Event = field(default_factory=threading.Event)
    abandoned: threading.Event = field(default_factory=threading.Event)
    all: list[Said] = field(default_factory=list)
    shot: set[int] = field(default_factory=set)
    current: Said | None = None

    def start(self) -> None:
        threading.Thread(target=self._drive, daemon=True).start()

    @property
    def code(self) -> int | None:
        return self.all[-1].code if self.all else None

    def status(self) -> dict[str, object]:
        """What the controller says of its run in the warehouse; empty where it says nothing."""
        for path in (self.scene.warehouse / "control").glob("*/status.json"):
            try:
                said = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            if said.get("run") == self.run:
                return dict(said)
        return {}

    def _drive(self) -> None:
        chance = random.Random(f"{self.scene.seed} {self.run}")  # noqa: S311 - repeatable by seed
        while not self.abandoned.is_set():
            process, said = self.scene.submit(self.run)
            while (pid := inner(process)) is None and process.poll() is None:
                time.sleep(0.01)
            said.pid = pid
            self.current = said
            self.all.append(said)
            said.code = process.wait()
            self.current = None
            if said.ended:
                break
            self.abandoned.wait(chance.uniform(*AGAIN_S))
        self.ended.set()
