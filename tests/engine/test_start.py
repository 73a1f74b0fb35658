from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fleetbench.engine import lease, registry, start
from fleetbench.engine.protocol import Ask, EngineUnreachableError, LaunchError, Sign
from fleetbench.engine.runtime import NodeEngine, Program, Url, Venv
from fleetbench.engine.session import EngineSession
from fleetbench_collectors.host.cores import free_cores
from tests.engine.conftest import PYTHON, Fake, fake_spec, serving

Launch = Callable[..., EngineSession]

AWKWARD = (
    "a b",
    "'",
    '"',
    "$(touch pwned)",
    "`id`",
    "two\nlines",
    "-rf",
    "--",
    "",
    "*",
    "\\",
    "\u00e9\U0001f600",
    "a;b|c&d",
)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts a fake engine with some things otherwise, and stops it after the test."""
    with contextlib.ExitStack() as sessions:

        def run(adapter: Fake | None = None, engine: NodeEngine = PYTHON, **otherwise: Any) -> EngineSession:
            spec = fake_spec(tmp_path, **otherwise)
            return sessions.enter_context(start.start(adapter or Fake(), engine, spec, lease.new_lease("test")))

        yield run


def test_a_receipt_says_what_runs_and_how_long_it_took(launch: Launch, tmp_path: Path) -> None:
    receipt = launch().receipt
    assert (receipt.engine, receipt.version, receipt.model_alias, receipt.threads) == ("fake", "1.2", "tiny", 1)
    assert receipt.requested == {"kind": "good"}
    assert receipt.effective["kind"] == "good"
    assert receipt.effective["nothing"] is None
    assert receipt.differences == ()
    assert 0 < receipt.ready_s < receipt.first_token_s
    assert receipt.cold.first_token_s == pytest.approx(receipt.first_token_s - receipt.ready_s)
    assert receipt.cold.storage is not None
    json.dumps([receipt.requested, receipt.effective])
    assert (tmp_path / "engine.log").exists()


def test_an_engine_is_launched_by_name_as_the_nodes_settings_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, record = tmp_path / "node.yaml", tmp_path / "record"
    settings.write_text(
        f"engines: {{fake: {{path: {sys.executable}, args: [--from, node], env: {{FAKE_RECORD: {record}}}}}}}"
    )
    monkeypatch.setenv("FLEETBENCH_NODE", str(settings))
    monkeypatch.setattr(registry, "names", lambda: ["fake"])
    monkeypatch.setattr(registry, "engine", lambda _: Fake())
    with start.launch("fake", fake_spec(tmp_path, args=("--from", "matrix")), lease.new_lease("test")) as session:
        assert session.receipt.engine == "fake"
    assert json.loads(record.read_text())["argv"][-4:] == ["--from", "node", "--from", "matrix"]


def test_an_engine_that_is_not_healthy_at_once_is_waited_for(launch: Launch) -> None:
    session = launch(Fake(kind="late"))
    assert session.alive()
    assert session.receipt.effective["kind"] == "late"


def test_what_is_not_said_is_waited_for_but_not_for_ever(launch: Launch) -> None:
    differences = launch(Fake(wanted={"kernel": "marlin"})).receipt.differences
    assert differences == ("kernel: asked for marlin, the engine does not say what it runs",)


@pytest.mark.parametrize(
    ("text", "told"), [('{"quantization_config": {"bits": 4}}', {"bits": 4}), ("{", None), ("", None), (None, None)]
)
def test_the_adapter_is_told_what_the_models_folder_says(
    launch: Launch, tmp_path: Path, text: str | None, told: dict[str, Any] | None
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    if text is not None:
        (folder / "config.json").write_text(text)
    receipt = launch(checkpoint="source", model_path=folder).receipt
    assert receipt.effective["quantization"] == told


def test_metrics_that_are_lacking_are_a_difference(launch: Launch) -> None:
    assert launch(Fake(metrics=("fake:tokens_total",))).receipt.differences == ()
    lacking = launch(Fake(metrics=("fake:tokens_total", "fake:other"))).receipt
    assert lacking.differences == ("metrics: asked for served, the engine runs lacking fake:other",)


def test_an_engine_that_takes_neither_token_ids_nor_completions_is_asked_by_chat(launch: Launch) -> None:
    assert launch(Fake(kind="picky")).receipt.differences == ()


def test_requests_call_the_model_as_the_adapter_says(launch: Launch) -> None:
    assert launch(Fake(alias="/models/tiny")).receipt.model_alias == "/models/tiny"


@pytest.mark.parametrize("word", AWKWARD)
def test_an_awkward_word_reaches_the_engine_as_one_argument(launch: Launch, tmp_path: Path, word: str) -> None:
    record, folder = tmp_path / "record", tmp_path / ("model of " + word.replace("/", "")).strip()
    folder.mkdir()
    model = folder / "m.gguf"
    model.touch()
    engine = replace(PYTHON, args=("--first", word))
    launch(
        Fake(env={"FAKE_RECORD": str(record), "AWKWARD": word}),
        engine,
        args=(word, "--last"),
        model_name=f"name {word}",
        model_path=model,
    )
    told = json.loads(record.read_text())
    assert told["argv"][-4:] == ["--first", word, word, "--last"]
    assert told["argv"][told["argv"].index("--name") + 1] == f"name {word}"
    assert told["argv"][told["argv"].index("--model") + 1] == str(model)
    assert told["env"]["AWKWARD"] == word


@pytest.mark.parametrize("place", ["args", "env"])
def test_a_nul_is_refused_before_the_start(launch: Launch, tmp_path: Path, place: str) -> None:
    adapter = Fake(env={"A": "b\0"}) if place == "env" else Fake()
    with pytest.raises(LaunchError, match="NUL") as caught:
        launch(adapter, args=("a\0b",) if place == "args" else ())
    assert caught.value.cause == "arguments"
    assert not (tmp_path / "engine.log").exists()


def test_arguments_that_are_too_long_for_the_system_are_a_typed_error(launch: Launch) -> None:
    with pytest.raises(LaunchError, match="too long") as caught:
        launch(args=("x" * 200_000,))
    assert caught.value.cause == "arguments"


def test_the_nodes_environment_comes_before_the_adapters_and_arguments_by_variable_not_at_all(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_CTX_SIZE", "7")
    monkeypatch.setenv("KEPT", "here")
    record = tmp_path / "record"
    engine = replace(PYTHON, env={"BOTH": "node"})
    launch(Fake(env={"FAKE_RECORD": str(record), "BOTH": "adapter"}), engine)
    env = json.loads(record.read_text())["env"]
    assert (env["BOTH"], env["KEPT"]) == ("node", "here")
    assert "LLAMA_ARG_CTX_SIZE" not in env
    assert env[lease.LEASE_ENV] == lease.new_lease("test")


def test_files_lie_in_a_private_folder_that_the_engine_is_told(launch: Launch, tmp_path: Path) -> None:
    record = tmp_path / "record"
    launch(Fake(env={"FAKE_RECORD": str(record)}, files={"extra.yaml": "a: 1\n"}))
    argv = json.loads(record.read_text())["argv"]
    folder = Path(argv[argv.index("--folder") + 1])
    assert (folder / "extra.yaml").read_text() == "a: 1\n"
    assert folder.stat().st_mode & 0o077 == 0


def test_threads_default_to_the_free_cores_less_one(launch: Launch) -> None:
    assert launch(threads=None).receipt.threads == max(1, free_cores() - 1)


@pytest.mark.parametrize(
    ("kind", "cause", "sentence"),
    [
        ("unhealthy", "timeout", "did not report health within 1 s"),
        ("silent", "timeout", "did not report health within 1 s"),
        ("mute", "no_first_token", "did not give a first token within 1 s"),
        ("dies", "crashed", "exited with status 4"),
        ("daemon", "crashed", "exited with status 0"),
        ("says:nonsense", "no_first_token", "no completion"),
        ("says:{}", "no_first_token", "no completion"),
        ("says:[]", "no_first_token", "no completion"),
        ('says:{"usage": {"completion_tokens": 0}}', "no_first_token", "without a token"),
        ("status:500", "no_first_token", "status 500"),
        ("status:404", "no_first_token", "/v1/chat/completions: status 404"),
        ("exit:RuntimeError: CUDA out of memory. Tried", "oom", "it ran out of memory: RuntimeError"),
        ("exit:vllm: error: unrecognized arguments: --x", "arguments", "it does not know an argument"),
        ("exit:ModuleNotFoundError: No module named 'torch'", "runtime", "installation is not whole"),
        ("noisy", "oom", "it ran out of memory: RuntimeError: CUDA out of memory"),
    ],
)
def test_an_engine_that_does_not_come_up_is_a_typed_error(launch: Launch, kind: str, cause: str, sentence: str) -> None:
    timeout_s = 1 if "within" in sentence else 60
    with pytest.raises(LaunchError) as caught:
        launch(Fake(kind=kind), timeout_s=timeout_s)
    assert caught.value.cause == cause
    assert sentence in caught.value.reason
    assert all(line.isprintable() for line in caught.value.log_tail.split("\n"))


def test_an_engines_own_signs_come_before_the_shared_ones(launch: Launch) -> None:
    sign = Sign(cause="device", pattern="all gpus are busy", words="it waits for GPUs")
    with pytest.raises(LaunchError, match="it waits for GPUs: out of memory, ALL GPUS ARE BUSY") as caught:
        launch(Fake(kind="exit:out of memory, ALL GPUS ARE BUSY", signs=(sign,)))
    assert caught.value.cause == "device"


@pytest.mark.parametrize(
    ("checkpoint", "name"), [("gguf", "none.gguf"), ("source", "none"), ("compressed", "model.gguf")]
)
def test_a_missing_model_is_found_before_the_start(launch: Launch, tmp_path: Path, checkpoint: str, name: str) -> None:
    (tmp_path / "model.gguf").touch()
    with pytest.raises(LaunchError, match=f"{name} is missing") as caught:
        launch(checkpoint=checkpoint, model_path=tmp_path / name)
    assert caught.value.cause == "missing_file"
    assert not (tmp_path / "engine.log").exists()


def test_a_log_that_cannot_be_written_is_a_typed_error(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match="cannot write") as caught:
        launch(log=tmp_path / "file" / "engine.log")
    assert caught.value.cause == "disk"


@pytest.mark.parametrize(
    "runtime", [Program(path=Path("/no/such/engine")), Venv(path=Path("/no/such/venv"))], ids=["program", "venv"]
)
def test_an_engine_that_is_not_where_the_node_says_is_a_typed_error(launch: Launch, runtime: Program | Venv) -> None:
    with pytest.raises(LaunchError, match="/no/such") as caught:
        launch(engine=NodeEngine(name="fake", runtime=runtime))
    assert caught.value.cause == "runtime"


def test_a_failed_launch_leaves_no_process(launch: Launch, tmp_path: Path) -> None:
    record = tmp_path / "record"
    with pytest.raises(LaunchError):
        launch(Fake(kind="mute", env={"FAKE_RECORD": str(record)}), timeout_s=2)
    assert lease.kill_lease(lease.new_lease("test")) == []


def test_an_engine_answers_on_the_port_that_was_asked_for(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert launch(port=port).receipt.base_url == f"http://127.0.0.1:{port}"


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port of a server that is healthy and not ours."""

    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    with serving(Healthy) as port:
        yield port


def test_a_healthy_stranger_on_the_port_is_not_taken_for_the_engine(launch: Launch, stranger: int) -> None:
    with pytest.raises(LaunchError, match="another process answers on its port") as caught:
        launch(Fake(kind="slow"), port=stranger)
    assert caught.value.cause == "port"


def test_an_engine_that_somebody_kills_while_it_starts_did_not_crash(tmp_path: Path) -> None:
    """Whoever is told so may try it again."""
    text = lease.new_lease("killed")

    def kill() -> None:
        while not lease.kill_lease(text):
            pass

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(LaunchError) as caught:
        start.start(Fake(kind="silent"), PYTHON, fake_spec(tmp_path), text)
    killer.join()
    assert (caught.value.cause, caught.value.reason) == ("killed", "it was killed by SIGKILL")


def test_a_port_that_was_taken_in_between_is_chosen_anew(
    launch: Launch, stranger: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = start._free_port()
    chosen = iter([stranger, free])
    monkeypatch.setattr(start, "_free_port", lambda: next(chosen))
    assert launch(Fake(kind="slow")).receipt.base_url == f"http://127.0.0.1:{free}"


def test_an_engine_that_is_killed_says_so(launch: Launch) -> None:
    session = launch()
    assert (session.exit_cause(), session.exit_reason()) == (None, None)
    os.kill(session.guarded.engine_pid, signal.SIGKILL)
    session.guarded.wait(30)
    assert not session.alive()
    assert (session.exit_cause(), session.exit_reason()) == ("crashed", "it was killed by SIGKILL")
    with pytest.raises(EngineUnreachableError):
        session.metrics_text()


def test_stopping_frees_the_port_and_may_be_repeated(launch: Launch) -> None:
    session = launch()
    address = urlsplit(session.receipt.base_url)
    session.stop()
    session.stop()
    assert (session.exit_cause(), session.exit_reason()) == ("stopped", "it was stopped")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((str(address.hostname), int(address.port or 0)))


def test_a_cache_is_emptied_where_the_engine_has_a_way_to(launch: Launch) -> None:
    assert not launch().reset_cache()
    way = Ask(method="POST", path="/reset")
    assert launch(Fake(reset=way)).reset_cache()
    with pytest.raises(EngineUnreachableError, match="/reset: status 500"):
        launch(Fake(kind="stubborn", reset=way)).reset_cache()


def test_a_server_that_runs_already_is_found_and_not_stopped(launch: Launch, tmp_path: Path) -> None:
    url = launch().receipt.base_url
    engine = NodeEngine(name="fake", runtime=Url(base_url=url, model="theirs", version="9"))
    spec = replace(fake_spec(tmp_path), log=tmp_path / "other.log", model_path=Path("/not/here"))
    with start.start(Fake(wanted={"kind": "bad", "unsaid": 1}), engine, spec, lease.new_lease("other")) as session:
        receipt = session.receipt
        assert (receipt.version, receipt.model_alias, receipt.base_url) == ("9", "theirs", url)
        assert receipt.differences == ("kind: asked for bad, the engine runs good",)
        assert receipt.requested == {"kind": "bad"}
        assert receipt.cold.first_token_s is None
        assert session.alive()
        session.stop()
        assert session.alive()
        assert "fake:tokens_total" in session.metrics_text()


def test_a_server_that_is_gone_is_dead_and_says_where_it_was(launch: Launch, tmp_path: Path) -> None:
    ours = launch()
    engine = NodeEngine(name="fake", runtime=Url(base_url=ours.receipt.base_url, model="m", version="9"))
    found = start.start(Fake(), engine, fake_spec(tmp_path), lease.new_lease("other"))
    ours.stop()
    assert not found.alive()
    assert found.exit_cause() == "crashed"
    assert ours.receipt.base_url in str(found.exit_reason())


def test_a_server_without_a_list_of_models_needs_one_named(launch: Launch, tmp_path: Path) -> None:
    engine = NodeEngine(name="fake", runtime=Url(base_url=launch().receipt.base_url, version="9"))
    with pytest.raises(LaunchError, match="name one as `model:`") as caught:
        start.start(Fake(), engine, fake_spec(tmp_path), lease.new_lease("other"))
    assert caught.value.cause == "arguments"


def test_a_server_that_does_not_answer_is_a_typed_error(tmp_path: Path) -> None:
    engine = NodeEngine(name="fake", runtime=Url(base_url="http://127.0.0.1:9", version="9"))
    with pytest.raises(LaunchError, match=r"127\.0\.0\.1:9 does not answer") as caught:
        start.start(Fake(), engine, fake_spec(tmp_path), lease.new_lease("other"))
    assert caught.value.cause == "runtime"


def test_a_path_that_is_relative_here_is_whole_for_the_engine(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = tmp_path / "record"
    launch(Fake(env={"FAKE_RECORD": str(record)}), model_path=Path("model.gguf"), log=Path("engine.log"))
    argv = json.loads(record.read_text())["argv"]
    assert argv[argv.index("--model") + 1] == str(tmp_path / "model.gguf")
    assert argv[argv.index("--folder") + 1] == str(tmp_path / "engine.log.d")
