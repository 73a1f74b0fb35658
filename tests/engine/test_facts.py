from __future__ import annotations

import http.server
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetbench.engine import facts
from fleetbench.engine.llamacpp import LlamaCpp
from fleetbench.engine.runtime import NodeEngine, Program, Runtime, Url, Venv, Wheel
from fleetbench.errors import UnusableEnvironmentError
from tests.engine.conftest import PYTHON, Fake, serving


def on(runtime: Runtime) -> NodeEngine:
    return NodeEngine(name="fake", runtime=runtime)


def install(
    venv: Path, folder: str, metadata: str = "Metadata-Version: 2.4\nName: vllm\nVersion: 0.32.0+cpu\n\nVersion: 9\n"
) -> None:
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    place = venv / "lib/python3.12/site-packages" / folder
    place.mkdir(parents=True)
    (place / "METADATA").write_text(metadata)


def test_the_version_in_a_venv_is_read_and_nothing_is_run(tmp_path: Path) -> None:
    install(tmp_path, "vllm-0.32.0+cpu.dist-info")
    install(tmp_path, "vllm_flash_attn-2.0.dist-info", "Version: 2.0\n")
    assert facts.version(Fake(package="vllm"), on(Venv(path=tmp_path))) == "0.32.0+cpu"


@pytest.mark.parametrize("folder", ["Tensorrt_LLM-1.2.dist-info", "tensorrt.llm-1.2.dist-info"])
def test_a_packages_name_may_be_spelled_as_pip_allows(tmp_path: Path, folder: str) -> None:
    install(tmp_path, folder)
    assert facts.version(Fake(package="tensorrt-llm"), on(Venv(path=tmp_path))) == "0.32.0+cpu"


def test_a_venv_without_the_package_names_the_remedy(tmp_path: Path) -> None:
    install(tmp_path, "other-1.dist-info")
    with pytest.raises(UnusableEnvironmentError, match=f"vllm is not installed in {tmp_path}: .*pip install"):
        facts.version(Fake(package="vllm"), on(Venv(path=tmp_path)))


def test_a_folder_that_is_no_venv_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UnusableEnvironmentError, match="is no virtual environment"):
        facts.version(Fake(package="vllm"), on(Venv(path=tmp_path / "none")))


def test_two_versions_in_one_venv_are_no_receipt(tmp_path: Path) -> None:
    install(tmp_path, "vllm-1.dist-info", "Version: 1\n")
    install(tmp_path, "vllm-2.dist-info", "Version: 2\n")
    with pytest.raises(UnusableEnvironmentError, match="metadata of vllm 1 and 2"):
        facts.version(Fake(package="vllm"), on(Venv(path=tmp_path)))


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("version: 5092 (d3bd719)\nbuilt with cc 12.2", "5092"),
        ("version: 0.2.0-dev (build 10605, commit abc)", "10605"),
        ("version: 0.2.0-dev (build 0, commit unknown)", "0.2.0-dev"),
        ("0.32.0+cpu", "0.32.0+cpu"),
        ("INFO 11-24 loading\nvllm v1.2.3rc1,", "1.2.3rc1"),
    ],
)
def test_a_program_is_asked_for_its_version(said: str, version: str) -> None:
    adapter = Fake(version_argv=("fake-engine", "-c", f"print({said!r})"))
    assert facts.version(adapter, PYTHON) == version


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("print('hello')", "does not say its version, but 'hello'"),
        ("raise SystemExit('no CUDA')", "does not run .no CUDA."),
    ],
)
def test_a_program_that_gives_no_receipt_says_why(code: str, sentence: str) -> None:
    with pytest.raises(UnusableEnvironmentError, match=sentence):
        facts.version(Fake(version_argv=("fake-engine", "-c", code)), PYTHON)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(UnusableEnvironmentError, match=r"/no/such/program does not run .No such file"):
        facts.version(Fake(), on(Program(path=Path("/no/such/program"))))


class Server(http.server.BaseHTTPRequestHandler):
    told: dict[str, Any] = {}  # noqa: RUF012  set by the test

    def do_GET(self) -> None:
        self.send_response(200 if self.path in self.told else 404)
        self.end_headers()
        self.wfile.write(json.dumps(self.told.get(self.path)).encode())

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def url() -> Iterator[str]:
    with serving(Server) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("told", "given", "version"),
    [
        ({"/version": {"version": "0.32.0"}}, "1", "0.32.0"),
        ({"/get_server_info": {"version": "0.5.23"}}, None, "0.5.23"),
        ({"/version": [], "/props": {"build_info": "b11549-abc"}}, None, "b11549-abc"),
        ({"/version": {"version": 3}}, "1", "1"),
        ({}, None, "0"),
    ],
)
def test_a_server_is_asked_and_the_settings_are_believed_where_it_is_silent(
    url: str, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any], given: str | None, version: str
) -> None:
    monkeypatch.setattr(Server, "told", told)
    assert facts.version(Fake(), on(Url(base_url=url, version=given))) == version


def test_what_is_missing_here_is_named_with_the_remedy() -> None:
    with pytest.raises(UnusableEnvironmentError, match="pip install no-such-package"):
        facts.version(Fake(package="no-such-package"), on(Wheel()))


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's settings file, named by the environment."""
    file = tmp_path / "node.yaml"
    file.write_text("")
    monkeypatch.setenv("FLEETBENCH_NODE", str(file))
    return file


@pytest.mark.engine
def test_the_embedded_engine_can_be_used_as_installed(node: Path) -> None:
    assert node.exists()
    assert facts.availability("llamacpp") is None
    info = facts.info("llamacpp")
    assert info.name == "llamacpp"
    assert info.version == facts.version(LlamaCpp(), on(Wheel()))
    assert info.toolchain == f"xllamacpp {info.version}"


def test_an_engine_that_the_node_does_not_name_is_asked_for(node: Path) -> None:
    assert node.exists()
    with pytest.raises(UnusableEnvironmentError, match="do not say where no-such-engine is"):
        facts.node_engine("no-such-engine")


def test_an_unavailable_engine_says_why(node: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("fleetbench.engine.registry.names", lambda: ["fake"])
    monkeypatch.setattr("fleetbench.engine.registry.engine", lambda _: Fake(package="vllm", program="vllm"))
    venv = tmp_path / "venv"
    node.write_text(f"engines: {{fake: {{venv: {venv}}}}}")
    assert "is no virtual environment" in str(facts.availability("fake"))
    install(venv, "vllm-1.dist-info")
    assert f"{venv}/bin/vllm is not there" in str(facts.availability("fake"))
    (venv / "bin/vllm").touch()
    assert facts.availability("fake") is None
