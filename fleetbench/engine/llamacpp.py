"""The embedded engine: llama.cpp out of the xllamacpp wheel, in a guarded process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from fleetbench.engine import endings, llamacpp_words, protocol
from fleetbench.engine.guarded import Guarded, GuardError
from fleetbench.engine.protocol import Cause, EngineUnreachableError, LaunchError, LaunchSpec, Receipt
from fleetbench.errors import UnusableEnvironmentError
from fleetbench.matrix.types import EngineInfo
from fleetbench_collectors.host.cores import free_cores

NAME = "llamacpp"
WHEEL = "xllamacpp"
KV_FORMATS = ("f16", "q8_0", "q4_0")
SERVER = (sys.executable, "-P", "-m", "fleetbench.engine.llamacpp_server")
STEP_S = 0.005
ANSWER_S = 5.0
DEATH_S = 0.5  # a connection breaks before its engine is reported dead
STOP_GRACE_S = 2.0
SEEDS = 2**32
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class LlamaCpp:
    """Starts llama.cpp's server on loopback; `command` is what is run with the specification's path."""

    name = NAME

    def __init__(self, command: Sequence[str] = SERVER) -> None:
        self.command = tuple(command)

    def info(self) -> EngineInfo:
        """Its version is the wheel's: llama.cpp's own build number is unknown there."""
        found = _version(WHEEL)
        return EngineInfo(name=NAME, version=found, toolchain=f"{WHEEL} {found}, gguf {_version('gguf')}")

    def availability(self) -> str | None:
        if not hasattr(os, "pidfd_open"):
            return "it is guarded by Linux means (pidfd, subreaper): run it on Linux"
        probe = [sys.executable, "-P", "-c", f"import {WHEEL}"]
        done = subprocess.run(probe, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return None
        why = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return f"the {WHEEL} wheel does not load ({why}): pip install --force-reinstall {WHEEL}"

    def launch(self, spec: LaunchSpec, lease: str) -> LlamaCppSession:
        if not spec.model_path.is_file():
            raise LaunchError(NAME, "missing_file", f"the model file {spec.model_path} is missing", "")
        strange = [kv for kv in (spec.kv.k, spec.kv.v) if kv not in KV_FORMATS]
        if strange:
            known = ", ".join(KV_FORMATS)
            raise LaunchError(NAME, "unsupported", f"it has no cache format {strange[0]}; it has {known}", "")
        threads = spec.threads if spec.threads is not None else max(1, free_cores() - 1)
        with contextlib.ExitStack() as undo:
            start = ColdStart(spec, threads)
            start.run(self.command, lease)
            undo.callback(start.guarded.kill)
            session = start.session()
            undo.pop_all()
        return session


class ColdStart:
    """One way from a specification to a first token."""

    def __init__(self, spec: LaunchSpec, threads: int) -> None:
        self.spec = spec
        self.threads = threads
        self.ready = spec.log.with_name(f"{spec.log.name}.ready.json")
        self.order = spec.log.with_name(f"{spec.log.name}.spec.json")
        self.memory_kills = endings.oom_kills()
        self.began = time.monotonic()
        self.guarded: Guarded

    def run(self, command: Sequence[str], lease: str) -> None:
        env = {**os.environ, **dict.fromkeys(THREAD_LIMITS, str(self.threads))}
        try:
            self.spec.log.parent.mkdir(parents=True, exist_ok=True)
            self.ready.unlink(missing_ok=True)
            self.order.write_text(json.dumps(self.wanted()))
            self.guarded = Guarded.start([*command, str(self.order)], env, lease, self.spec.log)
        except OSError as error:
            where = error.filename or self.spec.log
            raise LaunchError(NAME, "disk", f"cannot write {where}: {error.strerror}", "") from error
        except GuardError as error:
            raise LaunchError(NAME, "crashed", str(error), endings.tail(self.spec.log, 20)) from error

    def wanted(self) -> dict[str, Any]:
        spec = self.spec
        return {
            "model_path": str(spec.model_path),
            "alias": spec.model_name,
            "port": spec.port,
            "slots": spec.slots,
            "context_tok": spec.context_tok,
            "threads": self.threads,
            "seed": spec.seed % SEEDS,
            "kv_k": spec.kv.k,
            "kv_v": spec.kv.v,
            "ready": str(self.ready),
        }

    def session(self) -> LlamaCppSession:
        told = self.until_listening()
        base_url = told["base_url"]
        self.until_healthy(base_url)
        ready_s = time.monotonic() - self.began
        self.first_token(base_url)
        first_token_s = time.monotonic() - self.began
        requested = self.requested()
        running = self.effective(base_url, told["version"])
        receipt = Receipt(
            engine=NAME,
            version=told["version"],
            base_url=base_url,
            model_alias=self.spec.model_name,
            requested=requested,
            effective=running,
            differences=protocol.differences(requested, running),
            ready_s=ready_s,
            first_token_s=first_token_s,
            threads=self.threads,
        )
        return LlamaCppSession(receipt, self.guarded, self.spec.log, self.memory_kills)

    def requested(self) -> dict[str, Any]:
        asked = {key: self.wanted()[key] for key in ("kv_k", "kv_v", "slots", "context_tok", "threads", "seed")}
        return {
            "version": _version(WHEEL),
            "weights": self.spec.weights,
            **asked,
            "prefill_threads": self.threads,
            "flash_attention": "enabled",
        }

    def left_s(self, doing: str, cause: Cause = "timeout") -> float:
        """Seconds left; raises LaunchError once the engine ended or the time is over."""
        ended = self.guarded.wait(STEP_S)
        log = endings.tail(self.spec.log)
        if ended is not None:
            kills = endings.oom_kills() - self.memory_kills
            why, sentence = endings.explain(ended, log, memory_kills=kills)
            raise LaunchError(NAME, why, sentence, endings.tail(self.spec.log, 20))
        left = self.spec.timeout_s - (time.monotonic() - self.began)
        if left > 0:
            return left
        reason = f"it did not {doing} within {self.spec.timeout_s:g} s"
        raise LaunchError(NAME, cause, reason, endings.tail(self.spec.log, 20))

    def until_listening(self) -> dict[str, Any]:
        while not self.ready.exists():
            self.left_s("listen")
        told: dict[str, Any] = json.loads(self.ready.read_text())
        return told

    def until_healthy(self, base_url: str) -> None:
        while True:
            left = self.left_s("report health")
            with contextlib.suppress(EngineUnreachableError):
                ask(base_url, "/health", timeout_s=min(left, 1.0))
                return

    def first_token(self, base_url: str) -> None:
        body = {
            "model": self.spec.model_name,
            "prompt": [1, 2, 3],
            "max_tokens": 1,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        left = self.left_s("give a first token", "no_first_token")
        try:
            answer = json.loads(ask(base_url, "/v1/completions", body=body, timeout_s=left))
            if answer["usage"]["completion_tokens"] == 1:
                return
            why = "it answered without a token"
        except EngineUnreachableError as error:
            why = str(error)
        except (ValueError, KeyError, TypeError) as error:
            why = f"it answered what is no completion ({error!r})"
        self.guarded.wait(DEATH_S)
        self.left_s("give a first token", "no_first_token")
        raise LaunchError(NAME, "no_first_token", why, endings.tail(self.spec.log, 20))

    def effective(self, base_url: str, found: str) -> dict[str, Any]:
        """Read back; the log is written by a thread of the engine, so its last start line is waited for."""
        while not llamacpp_words.LISTENING.search(log := self.spec.log.read_text(errors="replace")):
            self.left_s("finish its log")
        try:
            props = json.loads(ask(base_url, "/props", timeout_s=ANSWER_S))
            slots = json.loads(ask(base_url, "/slots", timeout_s=ANSWER_S))
        except (EngineUnreachableError, ValueError) as error:
            self.guarded.wait(DEATH_S)
            self.left_s("say its configuration")
            tail = endings.tail(self.spec.log, 20)
            raise LaunchError(NAME, "crashed", f"it does not say its configuration: {error}", tail) from error
        return llamacpp_words.effective(log, props, slots, found)


class LlamaCppSession:
    """One llama.cpp server that is up."""

    def __init__(self, receipt: Receipt, guarded: Guarded, log: Path, memory_kills: int) -> None:
        self.receipt = receipt
        self.guarded = guarded
        self.log = log
        self._memory_kills = memory_kills

    def alive(self) -> bool:
        return self.guarded.poll() is None

    def exit_cause(self) -> Cause | None:
        ended = self._ended()
        return ended[0] if ended else None

    def exit_reason(self) -> str | None:
        ended = self._ended()
        return ended[1] if ended else None

    def _ended(self) -> tuple[Cause, str] | None:
        ended = self.guarded.poll()
        if ended is None:
            return None
        kills = endings.oom_kills() - self._memory_kills
        return endings.explain(ended, endings.tail(self.log), memory_kills=kills)

    def log_tail(self, lines: int = 20) -> str:
        return endings.tail(self.log, lines)

    def metrics_text(self) -> str:
        return ask(self.receipt.base_url, "/metrics", timeout_s=ANSWER_S).decode(errors="replace")

    def stop(self) -> None:
        self.guarded.stop(STOP_GRACE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def ask(base_url: str, path: str, *, timeout_s: float, body: dict[str, Any] | None = None) -> bytes:
    """One request, by no proxy; raises EngineUnreachableError for all but status 200."""
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=timeout_s)
    headers = {"Content-Type": "application/json"} if body else {}
    try:
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise EngineUnreachableError(f"{path}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise EngineUnreachableError(f"{path}: status {response.status}: {content[:200]!r}")
    return content


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise UnusableEnvironmentError(f"{package} is not installed: pip install {package}") from error
