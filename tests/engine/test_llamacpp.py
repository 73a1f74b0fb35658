from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetbench.engine import lease, registry, start
from fleetbench.engine.client import ask
from fleetbench.engine.llamacpp import CACHES, LlamaCpp
from fleetbench.engine.protocol import LaunchError, LaunchSpec
from fleetbench.engine.runtime import NodeEngine, Wheel
from fleetbench.engine.session import EngineSession
from fleetbench.matrix.types import Draft, KvFormat, Recipe
from fleetbench_collectors.host.cores import free_cores
from tests.engine.conftest import fake_spec

Launch = Callable[..., EngineSession]

EMBEDDED = NodeEngine(name="llamacpp", runtime=Wheel())
RECIPE = Recipe(name="f16", weights="f16", kv=KvFormat(k="f16", v="f16"))
FORMATS = ("f16", "q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k", "iq4_xs", "mxfp4", "nvfp4")
PAIRS = (*((kv, kv) for kv in CACHES), ("q8_0", "q4_0"), ("q4_0", "f16"), ("f16", "q4_0"))
MEMORY_LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
runpy.run_module("fleetbench.engine.llamacpp_server", run_name="__main__")
"""
OWNER = """
import sys
from pathlib import Path
from fleetbench.engine import lease, start
from tests.engine.conftest import fake_spec
from tests.engine.test_llamacpp import EMBEDDED, LlamaCpp
spec = fake_spec(Path(sys.argv[2]), model_path=Path(sys.argv[1]))
session = start.start(LlamaCpp(), EMBEDDED, spec, lease.new_lease("owner"))
print(session.guarded.guard_pid, session.guarded.engine_pid, flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.engine


class Limited(LlamaCpp):
    """The same in 4 GiB of address space."""

    def command(self, spec: LaunchSpec, version: str, folder: Path, port: int) -> Any:
        command = super().command(spec, version, folder, port)
        return replace(command, argv=("python", "-c", MEMORY_LIMITED, command.argv[-1]))


@pytest.fixture
def launch(tiny_gguf: Path, tmp_path: Path) -> Iterator[Launch]:
    """Launches the tiny model with some things otherwise, and stops it after the test."""
    with contextlib.ExitStack() as sessions:

        def run(adapter: LlamaCpp | None = None, **otherwise: Any) -> EngineSession:
            spec = fake_spec(tmp_path, **{"model_path": tiny_gguf, **otherwise})
            return sessions.enter_context(start.start(adapter or LlamaCpp(), EMBEDDED, spec, lease.new_lease("test")))

        yield run


def test_it_comes_up_as_asked(launch: Launch) -> None:
    receipt = launch().receipt
    assert receipt.differences == ()
    assert receipt.version == receipt.effective["version"]
    assert receipt.model_alias == "tiny"
    assert 0 < receipt.ready_s <= receipt.first_token_s
    assert receipt.requested.keys() <= receipt.effective.keys()
    assert receipt.effective["seed"] == 7
    json.dumps([receipt.requested, receipt.effective])


def test_its_start_is_told_in_phases_by_its_own_stamps(launch: Launch) -> None:
    receipt = launch().receipt
    cold = receipt.cold
    assert cold.read_s is None  # mapped: read as it is used
    assert cold.load_s is not None
    assert cold.compile_s is not None
    assert 0 < cold.load_s + cold.compile_s < receipt.ready_s


def test_the_installed_adapter_is_found_by_name() -> None:
    assert registry.engine("llamacpp").name == "llamacpp"


@pytest.mark.parametrize("weights", FORMATS)
def test_every_weight_format_is_read_back(launch: Launch, gguf: Callable[[str, str], Path], weights: str) -> None:
    receipt = launch(model_path=gguf("tiny", weights), recipe=replace(RECIPE, weights=weights)).receipt
    assert receipt.differences == ()
    assert receipt.effective["weights"] == weights


@pytest.mark.parametrize(("k", "v"), PAIRS)
def test_every_cache_format_is_read_back(launch: Launch, k: str, v: str) -> None:
    receipt = launch(recipe=replace(RECIPE, kv=KvFormat(k=k, v=v))).receipt
    assert receipt.differences == ()
    assert (receipt.effective["kv_k"], receipt.effective["kv_v"]) == (k, v)


def test_weights_other_than_asked_for_are_a_difference(launch: Launch) -> None:
    differences = launch(recipe=replace(RECIPE, weights="q4_k")).receipt.differences
    assert "weights: asked for q4_k, the engine runs f16" in differences


def test_every_slot_has_the_asked_context(launch: Launch) -> None:
    effective = launch(slots=3, context_tok=300).receipt.effective
    assert effective["slots"] == 3
    assert effective["context_tok"] >= 300


def test_a_context_beyond_the_models_is_a_difference(launch: Launch) -> None:
    assert launch(context_tok=2048).receipt.differences == ("context_tok: asked for 2048, the engine runs 1024",)


def test_it_keeps_nothing_between_requests(launch: Launch) -> None:
    base_url = launch(slots=1).receipt.base_url
    body = {"model": "tiny", "prompt": list(range(4, 100)), "max_tokens": 1}
    usage = [json.loads(ask(base_url, "/v1/completions", body=body, timeout_s=30))["usage"] for _ in range(2)]
    assert [one["prompt_tokens_details"]["cached_tokens"] for one in usage] == [0, 0]
    assert [one["prompt_tokens"] for one in usage] == [96, 96]


def test_its_environment_bears_the_lease_and_bounded_threads(launch: Launch) -> None:
    session = launch(threads=1)
    found = Path(f"/proc/{session.guarded.engine_pid}/environ").read_bytes().split(b"\0")
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


def test_a_name_may_hold_what_a_shell_would_act_on(launch: Launch) -> None:
    name = "-x $(id) 'a' \"b\" \u00e9"
    assert launch(model_name=name).receipt.model_alias == name


def test_a_taken_port_is_a_typed_error(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(LaunchError, match="port") as caught:
        launch(port=taken.getsockname()[1])
    assert caught.value.cause == "port"
    assert "couldn't bind" in caught.value.log_tail


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
    with pytest.raises(LaunchError) as caught:
        launch(Limited(), context_tok=2_000_000)
    assert caught.value.cause == "oom"


@pytest.mark.parametrize(
    ("otherwise", "sentence"),
    [
        ({"recipe": replace(RECIPE, kv=KvFormat(k="f16", v="q3_k"))}, "no cache format q3_k"),
        ({"recipe": replace(RECIPE, kv=KvFormat(k="q8_0", v="q8_0", k_scales="per_head"))}, "one scale for each block"),
        ({"recipe": replace(RECIPE, draft=Draft(method="ngram", model=None, tokens=4))}, "use llama-server"),
        ({"recipe": replace(RECIPE, lora=("/a",))}, "use llama-server"),
        ({"checkpoint": "source", "model_path": Path("/")}, "serves GGUF files"),
        ({"dummy": True}, "no weights without a file"),
        ({"args": ("--x",)}, "takes no arguments"),
    ],
)
def test_what_it_cannot_do_is_refused_before_a_start(
    launch: Launch, tmp_path: Path, otherwise: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(LaunchError, match=sentence) as caught:
        launch(**otherwise)
    assert caught.value.cause in ("unsupported", "arguments")
    assert not (tmp_path / "engine.log").exists()


def test_an_engine_killed_in_its_life_says_so(launch: Launch) -> None:
    session = launch()
    os.kill(session.guarded.engine_pid, signal.SIGKILL)
    session.guarded.wait(30)
    assert (session.exit_cause(), session.exit_reason()) == ("crashed", "it was killed by SIGKILL")
    assert "stop processing" in session.log_tail()


def test_a_suspended_engine_is_alive_and_can_be_stopped(launch: Launch, dies: Callable[[int], bool]) -> None:
    session = launch()
    os.kill(session.guarded.engine_pid, signal.SIGSTOP)
    assert session.alive()
    session.stop()
    assert dies(session.guarded.engine_pid)
    assert (session.exit_cause(), session.exit_reason()) == ("stopped", "it was stopped")


def test_a_killed_owner_leaves_no_engine(tiny_gguf: Path, tmp_path: Path, dies: Callable[[int], bool]) -> None:
    argv = [sys.executable, "-c", OWNER, str(tiny_gguf), str(tmp_path)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        owner.kill()
    assert len(pids) == 2
    assert all(dies(pid) for pid in pids)
