"""Starts any engine: from a specification to a first token, with a receipt of what really runs."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import socket
import time
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fleetbench.engine import (
    around,
    containers,
    endings,
    facts,
    first_token,
    lease,
    listening,
    protocol,
    registry,
    settings,
    storage,
)
from fleetbench.engine.client import request
from fleetbench.engine.follower import Follower
from fleetbench.engine.guarded import Exit, Guarded, GuardError
from fleetbench.engine.protocol import (
    Cause,
    ColdStart,
    Command,
    EngineAdapter,
    EngineUnreachableError,
    LaunchError,
    LaunchSpec,
    Receipt,
    Said,
)
from fleetbench.engine.runtime import Container, Mount, NodeEngine, Url, wrap
from fleetbench.engine.session import EngineSession, Others, Ways
from fleetbench.errors import UnusableEnvironmentError
from fleetbench_collectors.host.cores import free_cores

LOOPBACK = "127.0.0.1"
METRICS = "/metrics"
CONFIG = "config.json"
FIRST_STEP_S, LATER_STEP_S, QUICK_S = 0.005, 0.05, 2.0
"""How often a start is looked at: an engine that is up at once is seen at once, and a slow one is not disturbed."""
HEALTH_S = 2.0
ANSWER_S = 5.0
DEATH_S = 0.5
"""A connection breaks before its engine is reported dead."""
SAYING_S = 2.0
"""An engine logs by a thread of its own, and counts when a step is over: what it does not say yet is waited for."""
PORT_TRIES = 3
LOG_BYTES = 8_000_000
LOG_ROOM_BYTES = 65_536
TAIL_LINES = 40


def launch(name: str, spec: LaunchSpec, lease_text: str, others: Others | None = None) -> EngineSession:
    """Starts the engine of this name as the node's settings have it; returns once it gave a first token.

    others: its ranks on other nodes, where it has some; it ends with the first of them.

    Raises:
        LaunchError: it did not come up; the cause is one word, and the log's tail is kept.
        UnusableEnvironmentError: the node has no such engine.
    """
    return start(registry.engine(name), facts.node_engine(name), spec, lease_text, others)


def follow(name: str, spec: LaunchSpec, lease_text: str) -> Follower:
    """Starts a rank above 0 of an engine over several nodes; it has no health to wait for.

    Raises:
        LaunchError: it could not be started.
        UnusableEnvironmentError: the node has no such engine.
    """
    return follower(registry.engine(name), facts.node_engine(name), spec, lease_text)


def sweep() -> None:
    """Ends every process and container of this machine whose lease's owner is dead."""
    lease.sweep()
    containers.sweep(settings.read_settings().engines.values())


def start(
    adapter: EngineAdapter, engine: NodeEngine, spec: LaunchSpec, lease_text: str, others: Others | None = None
) -> EngineSession:
    """`launch` of this adapter, on this runtime; a port that somebody took in between is chosen anew."""
    if isinstance(engine.runtime, Url):
        return _Start(adapter, engine, spec, lease_text).found(engine.runtime)
    _check_model(adapter, spec)
    for left in reversed(range(1 if spec.port or others else PORT_TRIES)):
        try:
            return _Start(adapter, engine, spec, lease_text, others).started()
        except LaunchError as error:
            if error.cause != "port" or not left:
                raise
    raise AssertionError("the last try returns or raises")


def follower(adapter: EngineAdapter, engine: NodeEngine, spec: LaunchSpec, lease_text: str) -> Follower:
    """`follow` of this adapter, on this runtime."""
    starting = _Start(adapter, engine, spec, lease_text)
    if isinstance(engine.runtime, Url):
        why = f"{engine.runtime.base_url} runs already, and cannot be one of several ranks (give a venv or container)"
        raise starting.failed("runtime", why)
    _check_model(adapter, spec)
    guarded = starting.run(spec.port or _free_port())
    return Follower(guarded=guarded, log=spec.log, signs=adapter.signs, memory_kills=starting.memory_kills)


def _check_model(adapter: EngineAdapter, spec: LaunchSpec) -> None:
    kind, there = ("file", Path.is_file) if spec.checkpoint == "gguf" else ("folder", Path.is_dir)
    if not there(spec.model_path):
        raise LaunchError(adapter.name, "missing_file", f"the model {kind} {spec.model_path} is missing", "")


class _Start:
    """One way from a specification to a first token."""

    def __init__(
        self,
        adapter: EngineAdapter,
        engine: NodeEngine,
        spec: LaunchSpec,
        lease_text: str,
        others: Others | None = None,
    ) -> None:
        threads = spec.threads if spec.threads is not None else max(1, free_cores() - 1)
        path = spec.model_path.absolute()
        self.contained = isinstance(engine.runtime, Container)
        self.apart = isinstance(engine.runtime, Container) and engine.runtime.tool != "apptainer"
        self.spec = replace(
            spec,
            model_path=path.resolve() if self.contained else path,
            threads=threads,
            args=(*engine.args, *spec.args),
        )
        self.threads = threads
        self.adapter = adapter
        self.engine = engine
        self.lease = lease_text
        self.others = others
        self.version = self.receipt_of_version()
        self.began = time.monotonic()
        self.memory_kills = endings.oom_kills()
        self.guarded: Guarded | None = None
        self.alias = spec.model_name
        self.base_url = ""

    def receipt_of_version(self) -> str:
        try:
            return facts.version(self.adapter, self.engine)
        except UnusableEnvironmentError as error:
            raise self.failed("runtime", str(error)) from error

    def started(self) -> EngineSession:
        """Starts it; whatever goes wrong from there on, it is ended."""
        port = self.spec.port or _free_port()
        self.base_url = f"http://{LOOPBACK}:{port}"
        with contextlib.ExitStack() as undo:
            self.guarded = self.run(port)
            undo.callback(self.guarded.kill)
            if self.others is not None:
                self.others.ends(self.guarded.kill)
            self.until_healthy()
            self.check_listener(port)
            session = self.session()
            undo.pop_all()
        return session

    def found(self, server: Url) -> EngineSession:
        """A server that runs already: nothing is started, and only what it contradicts is a difference."""
        self.base_url = server.base_url
        self.until_healthy()
        self.alias = server.model or self.only_model()
        return self.session()

    def run(self, port: int) -> Guarded:
        spec = self.spec
        try:
            folder = spec.log.absolute().with_name(f"{spec.log.name}.d")
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            command = self.adapter.command(spec, self.version, folder, port)
            for name, text in command.files.items():
                (folder / name).write_text(text)
            self.alias = command.alias or self.alias
            process = wrap(command, self.engine, around.surroundings(), self.mounts(command, folder), self.lease)
            self.refuse_nul(process.argv, process.env)
            after = containers.ending(*process.container) if process.container else ()
            return Guarded.start(process.argv, process.env, self.lease, spec.log, after)
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise self.failed("arguments", "its arguments are too long for the system") from error
            raise self.failed("disk", f"cannot write {error.filename or spec.log}: {error.strerror}") from error
        except GuardError as error:
            raise self.failed("killed", str(error)) from error

    def mounts(self, command: Command, folder: Path) -> list[Mount]:
        """What a container must see: the model and what belongs to it, and the launch's own files."""
        if not self.contained:
            return []
        recipe = self.spec.recipe
        beside = [Path(path) for path in (*recipe.lora, *((recipe.draft.model,) if recipe.draft else ())) if path]
        paths = [self.spec.model_path, *(path for path in beside if path.exists())]
        found = [mount for path in paths for mount in around.seen(path)]
        return [*dict.fromkeys(found), *((Mount(source=folder),) if command.files else ())]

    def refuse_nul(self, argv: tuple[str, ...], env: Any) -> None:
        words = (*argv, *env.keys(), *env.values())
        strange = next((word for word in words if "\0" in word), None)
        if strange is not None:
            raise self.failed("arguments", f"the argument {strange!r} holds the character NUL")

    def session(self) -> EngineSession:
        ready = time.monotonic()
        self.first_token()
        first = time.monotonic()
        running = self.read_back()
        requested = self.requested()
        if self.guarded is None:
            requested = {name: value for name, value in requested.items() if running.get(name) is not None}
        receipt = Receipt(
            engine=self.adapter.name,
            version=self.version,
            base_url=self.base_url,
            model_alias=self.alias,
            requested=requested,
            effective=running,
            differences=protocol.differences(requested, running),
            cold=self.cold(first - ready),
            ready_s=ready - self.began,
            first_token_s=first - self.began,
            threads=self.threads,
        )
        ways = Ways(
            health=self.adapter.health,
            metrics=self.metrics_path(),
            reset=self.adapter.reset,
            signs=self.adapter.signs,
        )
        return EngineSession(
            receipt=receipt,
            guarded=self.guarded,
            log=self.spec.log,
            ways=ways,
            memory_kills=self.memory_kills,
            others=self.others,
        )

    def cold(self, first_token_s: float) -> ColdStart:
        if self.guarded is None:
            return ColdStart()
        read_from = None if self.spec.dummy else storage.kind(self.spec.model_path)
        return replace(self.adapter.cold(self.log()), first_token_s=first_token_s, storage=read_from)

    def failed(self, cause: Cause, reason: str) -> LaunchError:
        return LaunchError(self.adapter.name, cause, reason, endings.tail(self.spec.log, TAIL_LINES))

    def ending(self, ended: Exit, explained: tuple[Cause, str]) -> tuple[Cause, str]:
        """A crash is told from what somebody else did, and from a full disk, where a log says nothing."""
        found, reason = explained
        if found == "crashed" and (ended.code is None or ended.code in endings.KILLED):
            return "killed", reason
        folder = self.spec.log.parent
        if found == "crashed" and shutil.disk_usage(folder).free < LOG_ROOM_BYTES:
            return "disk", f"{reason}, and the disk of {folder} is full"
        return found, reason

    def left_s(self, doing: str, cause: Cause = "timeout") -> float:
        """Seconds left, after one step; raises LaunchError once the engine ended or the time is over."""
        step_s = FIRST_STEP_S if time.monotonic() - self.began < QUICK_S else LATER_STEP_S
        ended = self.guarded.wait(step_s) if self.guarded else None
        other = self.others.ended() if self.others is not None else None
        if other is not None and (ended is None or ended.cause == "stopped"):
            raise LaunchError(self.adapter.name, other.cause, other.reason, other.log_tail)
        if ended is not None:
            kills = endings.oom_kills() - self.memory_kills
            log = endings.tail(self.spec.log)
            raise self.failed(
                *self.ending(ended, endings.explain(ended, log, memory_kills=kills, signs=self.adapter.signs))
            )
        if self.guarded is None:
            time.sleep(step_s)
        left = self.spec.timeout_s - (time.monotonic() - self.began)
        if left <= 0:
            raise self.failed(cause, f"it did not {doing} within {self.spec.timeout_s:g} s")
        return left

    def until_healthy(self) -> None:
        while True:
            left = self.left_s("report health")
            with contextlib.suppress(EngineUnreachableError):
                answer = request(self.base_url, self.adapter.health, timeout_s=min(left, HEALTH_S))
                if answer.status == HTTPStatus.OK:
                    return

    def check_listener(self, port: int) -> None:
        """Whoever answered must be what was started, not one who had the port before."""
        if self.guarded is not None and not self.apart and listening.is_foreign(port, self.guarded.guard_pid):
            raise self.failed("port", f"another process answers on its port {port}")

    def only_model(self) -> str:
        """The one model that a server has."""
        try:
            told = request(self.base_url, "/v1/models", timeout_s=ANSWER_S).value
            names = [str(model["id"]) for model in told["data"]]
        except (EngineUnreachableError, KeyError, TypeError):
            names = []
        if len(names) == 1:
            return names[0]
        serves = f"it serves {', '.join(names[:5])}" if names else "it does not say which models it serves"
        raise self.failed("arguments", f"{serves}: name one as `model:` beside `url:` in the node's settings")

    def first_token(self) -> None:
        why = first_token.why_none(
            self.base_url, self.alias, left_s=lambda: self.left_s("give a first token", "no_first_token")
        )
        if why is None:
            return
        if self.guarded is not None:
            self.guarded.wait(DEATH_S)
        self.left_s("give a first token", "no_first_token")
        raise self.failed("no_first_token", why)

    def requested(self) -> dict[str, Any]:
        asked = self.adapter.requested(self.spec)
        return {**asked, "metrics": "served"} if self.adapter.metrics else asked

    def read_back(self) -> dict[str, Any]:
        """What runs, in the engine's words; waits a little for what was asked for and is not said yet."""
        until = time.monotonic() + SAYING_S
        asked = self.requested()
        config = self.config()
        while True:
            self.left_s("say its configuration")
            answers = {CONFIG: config, **{path: self.answer(path) for path in self.adapter.asks}}
            running = self.adapter.effective(Said(log=self.log(), answers=answers, version=self.version))
            if self.adapter.metrics:
                running = {**running, "metrics": self.served_metrics()}
            said = all(running.get(name) is not None for name in asked) and running.get("metrics") in (None, "served")
            if said or time.monotonic() > until:
                return running

    def config(self) -> Any:
        """config.json of the model's folder; None of a GGUF file, of a server found running, and of one unreadable."""
        if self.guarded is None or self.spec.checkpoint == "gguf":
            return None
        try:
            return json.loads((self.spec.model_path / CONFIG).read_bytes())
        except (OSError, ValueError):
            return None

    def answer(self, path: str) -> Any:
        try:
            answer = request(self.base_url, path, timeout_s=ANSWER_S)
        except EngineUnreachableError:
            return None
        return answer.value if answer.status == HTTPStatus.OK else None

    def served_metrics(self) -> str | None:
        """`served`, or which of the names are lacking; None where nothing is served."""
        text = self.answer(self.metrics_path())
        if not isinstance(text, str):
            return None
        lacking = [name for name in self.adapter.metrics if name not in text]
        return f"lacking {', '.join(lacking)}" if lacking else "served"

    def metrics_path(self) -> str:
        return str(getattr(self.adapter, "metrics_path", METRICS))

    def log(self) -> str:
        """The log's beginning, where an engine says what it is; empty where there is none."""
        try:
            with self.spec.log.open("rb") as file:
                return file.read(LOG_BYTES).decode(errors="replace")
        except OSError:
            return ""


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as free:
        port: int = free.getsockname()[1]
        return port
