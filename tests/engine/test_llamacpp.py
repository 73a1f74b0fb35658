from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fleetbench.engine import lease, llamacpp, registry
from fleetbench.engine.llamacpp import LlamaCpp, LlamaCppSession
from fleetbench.engine.protocol import EngineUnreachableError, LaunchError, LaunchSpec
from fleetbench.matrix.types import KvFormat
from fleetbench_collectors.host.cores import free_cores

Launch = Callable[..., LlamaCppSession]

FORMATS = ("f16", "q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k", "iq4_xs", "mxfp4", "nvfp4")
CACHES = (("f16", "f16"), ("q8_0", "q8_0"), ("q8_0", "q4_0"), ("q4_0", "f16"), ("f16", "q4_0"))
MEMORY_LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
runpy.run_module("fleetbench.engine.llamacpp_server", run_name="__main__")
"""
FAKE = """
import http.server, json, os, pathlib, signal, sys
spec = json.loads(pathlib.Path(sys.argv[2]).read_text())
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if sys.argv[1] == "unhealthy" else 200); self.end_headers()
    def do_POST(self):
        if sys.argv[1] == "mute": signal.pause()
        if sys.argv[1] == "dies": os._exit(4)
        self.send_response(200); self.end_headers(); self.wfile.write(sys.argv[1].encode())
server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
ready = pathlib.Path(spec["ready"])
told = {"base_url": "http://127.0.0.1:%d" % server.server_port, "version": "0"}
ready.with_suffix(".tmp").write_text(json.dumps(told))
ready.with_suffix(".tmp").rename(ready)
server.serve_forever()
"""
OWNER = """
import sys
from pathlib import Path
from fleetbench.engine import lease
from fleetbench.engine.llamacpp import LlamaCpp
from fleetbench.engine.protocol import LaunchSpec
from fleetbench.matrix.types import KvFormat
spec = LaunchSpec(model_path=Path(sys.argv[1]), model_name="tiny", kv=KvFormat(), weights="f16",
                  slots=1, context_tok=256, threads=1, seed=0, log=Path(sys.argv[2]), timeout_s=60)
session = LlamaCpp().launch(spec, lease.new_lease("owner"))
print(session.guarded.guard_pid, session.guarded.engine_pid, flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.engine


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


@pytest.fixture
def launch(tiny_gguf: Path, log: Path) -> Iterator[Launch]:
    """Launches the tiny model with some things otherwise, and stops it after the test."""
    with contextlib.ExitStack() as sessions:

        def start(adapter: LlamaCpp | None = None, **otherwise: Any) -> LlamaCppSession:
            common: dict[str, Any] = {
                "model_path": tiny_gguf,
                "model_name": "tiny",
                "kv": KvFormat(),
                "weights": "f16",
                "slots": 2,
                "context_tok": 256,
                "threads": 1,
                "seed": 7,
                "log": log,
                "timeout_s": 60,
            }
            spec = LaunchSpec(**{**common, **otherwise})
            return sessions.enter_context((adapter or LlamaCpp()).launch(spec, lease.new_lease("test")))

        yield start


def environment(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def test_it_comes_up_as_asked(launch: Launch) -> None:
    receipt = launch().receipt
    assert receipt.differences == ()
    assert receipt.version == receipt.effective["version"] == LlamaCpp().info().version
    assert receipt.model_alias == "tiny"
    assert 0 < receipt.ready_s <= receipt.first_token_s
    assert receipt.requested.keys() <= receipt.effective.keys()
    assert receipt.effective["seed"] == 7
    json.dumps([receipt.requested, receipt.effective])


def test_the_installed_adapter_can_be_used() -> None:
    adapter = registry.engine("llamacpp")
    assert adapter.name == adapter.info().name == "llamacpp"
    assert adapter.availability() is None


@pytest.mark.parametrize("weights", FORMATS)
def test_every_weight_format_is_read_back(launch: Launch, gguf: Callable[[str, str], Path], weights: str) -> None:
    receipt = launch(model_path=gguf("tiny", weights), weights=weights).receipt
    assert receipt.differences == ()
    assert receipt.effective["weights"] == weights


@pytest.mark.parametrize(("k", "v"), CACHES)
def test_every_cache_format_is_read_back(launch: Launch, k: str, v: str) -> None:
    receipt = launch(kv=KvFormat(k=k, v=v)).receipt
    assert receipt.differences == ()
    assert (receipt.effective["kv_k"], receipt.effective["kv_v"]) == (k, v)


def test_weights_other_than_asked_for_are_a_difference(launch: Launch) -> None:
    assert launch(weights="q4_k").receipt.differences == ("weights: asked for q4_k, the engine runs f16",)


def test_every_slot_has_the_asked_context(launch: Launch) -> None:
    effective = launch(slots=3, context_tok=300).receipt.effective
    assert effective["slots"] == 3
    assert effective["context_tok"] >= 300


def test_a_context_beyond_the_models_is_a_difference(launch: Launch) -> None:
    assert launch(context_tok=2048).receipt.differences == ("context_tok: asked for 2048, the engine runs 1024",)


def test_it_keeps_nothing_between_requests(launch: Launch) -> None:
    base_url = launch(slots=1).receipt.base_url
    body = {"model": "tiny", "prompt": list(range(4, 100)), "max_tokens": 1}
    usage = [json.loads(llamacpp.ask(base_url, "/v1/completions", body=body, timeout_s=30))["usage"] for _ in range(2)]
    assert [one["prompt_tokens_details"]["cached_tokens"] for one in usage] == [0, 0]
    assert [one["prompt_tokens"] for one in usage] == [96, 96]


def test_its_environment_bears_the_lease_and_bounded_threads(launch: Launch) -> None:
    session = launch(threads=1)
    found = environment(session.guarded.engine_pid)
    assert f"{lease.LEASE_ENV}={lease.new_lease('test')}".encode() in found
    assert b"OMP_NUM_THREADS=1" in found


def test_threads_default_to_the_free_cores_less_one(launch: Launch) -> None:
    receipt = launch(threads=None).receipt
    assert receipt.threads == max(1, free_cores() - 1) == receipt.effective["threads"]


def test_it_listens_on_loopback_alone_and_on_the_asked_port(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    base_url = launch(port=port).receipt.base_url
    assert base_url == f"http://127.0.0.1:{port}"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port))


def test_its_metrics_are_served(launch: Launch) -> None:
    assert "llamacpp:tokens_predicted_total 1" in launch().metrics_text()


def test_a_taken_port_is_a_typed_error(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(LaunchError, match="port") as caught:
        launch(port=taken.getsockname()[1])
    assert caught.value.cause == "port"
    assert "couldn't bind" in caught.value.log_tail


def test_a_missing_model_is_a_typed_error(launch: Launch, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"none\.gguf is missing") as caught:
        launch(model_path=tmp_path / "none.gguf")
    assert caught.value.cause == "missing_file"


@pytest.mark.parametrize("kept", [0, 3, 1000, 1_000_000])
def test_a_truncated_model_is_a_typed_error(launch: Launch, tiny_gguf: Path, tmp_path: Path, kept: int) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_gguf.read_bytes()[:kept])
    with pytest.raises(LaunchError) as caught:
        launch(model_path=broken)
    assert caught.value.cause == "bad_model"
    assert "load" in caught.value.log_tail


def test_a_model_of_noise_is_a_typed_error(launch: Launch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(bytes(range(256)) * 64)
    with pytest.raises(LaunchError) as caught:
        launch(model_path=broken)
    assert caught.value.cause == "bad_model"


def test_a_cache_too_large_for_the_memory_is_a_typed_error(launch: Launch) -> None:
    limited = LlamaCpp([sys.executable, "-c", MEMORY_LIMITED])
    with pytest.raises(LaunchError) as caught:
        launch(limited, context_tok=2_000_000)
    assert caught.value.cause == "oom"


def test_an_unknown_cache_format_is_refused_before_a_start(launch: Launch, log: Path) -> None:
    with pytest.raises(LaunchError, match="no cache format q3_k") as caught:
        launch(kv=KvFormat(v="q3_k"))
    assert caught.value.cause == "unsupported"
    assert not log.exists()


def test_a_log_that_cannot_be_written_is_a_typed_error(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match="cannot write") as caught:
        launch(log=tmp_path / "file" / "engine.log")
    assert caught.value.cause == "disk"


def test_an_engine_that_dies_at_start_leaves_its_last_words(launch: Launch) -> None:
    with pytest.raises(LaunchError, match="status 3") as caught:
        launch(LlamaCpp(["sh", "-c", "echo last words; exit 3"]))
    assert (caught.value.cause, caught.value.log_tail) == ("crashed", "last words")


@pytest.mark.parametrize(
    ("kind", "cause", "sentence"),
    [
        ("unhealthy", "timeout", "did not report health within 1 s"),
        ("mute", "no_first_token", "did not give a first token within 1 s"),
        ("dies", "crashed", "exited with status 4"),
        ("nonsense", "no_first_token", "no completion"),
        ("{}", "no_first_token", "no completion"),
        ("[]", "no_first_token", "no completion"),
        ('{"usage": {"completion_tokens": 0}}', "no_first_token", "without a token"),
    ],
)
def test_an_engine_that_does_not_answer_rightly_is_a_typed_error(
    launch: Launch, kind: str, cause: str, sentence: str
) -> None:
    timeout_s = 1 if kind in ("unhealthy", "mute") else 60
    with pytest.raises(LaunchError, match=sentence) as caught:
        launch(LlamaCpp([sys.executable, "-c", FAKE, kind]), timeout_s=timeout_s)
    assert caught.value.cause == cause


def test_an_engine_that_never_listens_times_out(launch: Launch) -> None:
    with pytest.raises(LaunchError, match=r"did not listen within 0\.2 s") as caught:
        launch(LlamaCpp(["sh", "-c", "exec sleep 1000"]), timeout_s=0.2)
    assert caught.value.cause == "timeout"


def test_a_failed_launch_leaves_no_process(launch: Launch, dies: Callable[[int], bool]) -> None:
    with pytest.raises(LaunchError):
        launch(LlamaCpp(["sh", "-c", "echo $$; exec sleep 1000"]), timeout_s=0.5)
    with pytest.raises(LaunchError) as caught:
        launch(LlamaCpp(["sh", "-c", "echo $$; exec sleep 1000"]), timeout_s=0.5)
    assert dies(int(caught.value.log_tail))


def test_an_engine_killed_in_its_life_says_so(launch: Launch) -> None:
    session = launch()
    assert session.alive()
    assert session.exit_reason() is None
    os.kill(session.guarded.engine_pid, signal.SIGKILL)
    session.guarded.wait(30)
    assert not session.alive()
    assert session.exit_cause() == "crashed"
    assert session.exit_reason() == "it was killed by SIGKILL"
    assert "stop processing" in session.log_tail()
    with pytest.raises(EngineUnreachableError):
        session.metrics_text()


def test_a_suspended_engine_is_alive_and_can_be_stopped(launch: Launch, dies: Callable[[int], bool]) -> None:
    session = launch()
    os.kill(session.guarded.engine_pid, signal.SIGSTOP)
    assert session.alive()
    session.stop()
    assert dies(session.guarded.engine_pid)
    assert (session.exit_cause(), session.exit_reason()) == ("stopped", "it was stopped")


def test_stopping_frees_the_port_and_may_be_repeated(launch: Launch) -> None:
    session = launch()
    address = urlsplit(session.receipt.base_url)
    session.stop()
    session.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((str(address.hostname), int(address.port or 0)))


def test_a_killed_owner_leaves_no_engine(tiny_gguf: Path, log: Path, dies: Callable[[int], bool]) -> None:
    argv = [sys.executable, "-c", OWNER, str(tiny_gguf), str(log)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        owner.kill()
    assert len(pids) == 2
    assert all(dies(pid) for pid in pids)
