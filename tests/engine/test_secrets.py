"""What an engine's process must not have: the secrets of the one that starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetbench.engine import lease, protocol, start
from fleetbench.engine.llamacpp import LlamaCpp
from fleetbench.engine.protocol import Command
from fleetbench.engine.runtime import Container, NodeEngine, Process, Surroundings, Tool, Wheel, wrap
from fleetbench.matrix.types import KvFormat, Recipe

SECRETS = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "AWS_SECRET_ACCESS_KEY",
    "OPENAI_API_KEY",
    "TOKEN",
)
PLAIN = ("TOKENIZERS_PARALLELISM", "HF_TOKEN_PATH", "PASSWORDLESS")
IMAGE = "a@sha256:" + "a1" * 32


def wrapped(engine: NodeEngine, *names: str) -> Process:
    around = Surroundings(
        environ={"PATH": "/bin", **dict.fromkeys(names, "hidden")}, python=Path("/p/python"), vendor="none", home="h"
    )
    return wrap(Command(argv=("vllm", "serve")), engine, around, [], "lease@1.2")


@pytest.mark.parametrize("tool", [None, "docker", "podman", "apptainer"])
def test_secrets_of_the_environment_stay_out_and_what_only_looks_like_one_stays_in(tool: Tool | None) -> None:
    runtime = Wheel() if tool is None else Container(image=IMAGE, tool=tool)
    process = wrapped(NodeEngine(name="vllm", runtime=runtime), *SECRETS, *PLAIN)
    assert {name for name, value in process.env.items() if value == "hidden"} == set(PLAIN)
    assert "hidden" not in " ".join(process.argv)


def test_the_nodes_settings_may_give_an_engine_a_secret_of_its_own() -> None:
    engine = NodeEngine(name="vllm", runtime=Wheel(), env={"HF_TOKEN": "its own"})
    assert "its own" in wrapped(engine, "HF_TOKEN").env.values()


def test_apptainer_keeps_the_password_by_which_it_pulls() -> None:
    engine = NodeEngine(name="vllm", runtime=Container(image=IMAGE, tool="apptainer"))
    env = wrapped(engine, "APPTAINER_DOCKER_PASSWORD", "APPTAINERENV_HF_TOKEN").env
    assert "APPTAINER_DOCKER_PASSWORD" in env
    assert "APPTAINERENV_HF_TOKEN" not in env


@pytest.mark.engine
def test_a_real_engine_and_its_guard_have_no_token_that_was_in_the_environment(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hidden")
    monkeypatch.setenv("PLAIN_WORD", "seen")
    spec = protocol.LaunchSpec(
        model_path=tiny_gguf,
        model_name="tiny",
        checkpoint="gguf",
        recipe=Recipe(name="f16", weights="f16", kv=KvFormat(k="f16", v="f16")),
        slots=1,
        context_tok=64,
        threads=1,
        seed=0,
        log=tmp_path / "engine.log",
        timeout_s=60,
    )
    with start.start(LlamaCpp(), NodeEngine(name="llamacpp", runtime=Wheel()), spec, lease.new_lease("t")) as session:
        assert session.guarded is not None
        engine = Path(f"/proc/{session.guarded.engine_pid}/environ").read_bytes()
        guard = Path(f"/proc/{session.guarded.guard_pid}/environ").read_bytes()
    assert b"PLAIN_WORD=seen" in engine
    assert b"hf_hidden" not in engine + guard
