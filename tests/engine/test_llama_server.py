from __future__ import annotations

import contextlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetbench.engine import lease, start
from fleetbench.engine.client import ask
from fleetbench.engine.llama_server import LlamaServer
from fleetbench.engine.llamacpp import CACHES
from fleetbench.engine.protocol import LaunchError, Said
from fleetbench.engine.runtime import NodeEngine, Program
from fleetbench.engine.session import EngineSession
from fleetbench.matrix.types import Draft, KvFormat, Parallel, Recipe
from tests.engine.conftest import fake_spec

Launch = Callable[..., EngineSession]

BINARY = "FLEETBENCH_LLAMA_SERVER"
"""Names a real llama-server for the slow tests."""
RECIPE = Recipe(name="f16", weights="f16", kv=KvFormat(k="f16", v="f16"))
ADAPTER = LlamaServer()


def argv(tmp_path: Path, **otherwise: Any) -> list[str]:
    return list(ADAPTER.command(fake_spec(tmp_path, **otherwise), "11549", tmp_path, 1234).argv)


def value(words: list[str], option: str) -> str:
    assert words.count(option) == 1
    return words[words.index(option) + 1]


def test_what_is_asked_for_is_said_with_its_flags(tmp_path: Path) -> None:
    recipe = replace(RECIPE, kv=KvFormat(k="q8_0", v="q4_0"))
    words = argv(tmp_path, recipe=recipe, slots=3, context_tok=100, threads=5, seed=2**32 + 1, args=("--mlock",))
    assert words[0] == "llama-server"
    assert words[-1] == "--mlock"
    asked = {
        "--model": str(tmp_path / "model.gguf"),
        "--alias": "tiny",
        "--host": "127.0.0.1",
        "--port": "1234",
        "--parallel": "3",
        "--ctx-size": "300",
        "--cache-type-k": "q8_0",
        "--cache-type-v": "q4_0",
        "--threads": "5",
        "--threads-batch": "5",
        "--seed": "1",
        "--gpu-layers": "0",
        "--cache-ram": "0",
        "--ctx-checkpoints": "0",
    }
    assert {option: value(words, option) for option in asked} == asked
    assert {"--metrics", "--slots", "--props", "--no-cache-prompt", "--no-kv-unified"} <= set(words)


@pytest.mark.parametrize(
    ("parallel", "split"),
    [(Parallel(), "none"), (Parallel(tp=2), "row"), (Parallel(pp=2), "layer"), (Parallel(tp=2, pp=2), "row")],
)
def test_on_gpus_every_layer_goes_to_them(tmp_path: Path, parallel: Parallel, split: str) -> None:
    words = argv(tmp_path, hardware="h100", parallel=parallel)
    assert (value(words, "--gpu-layers"), value(words, "--split-mode")) == ("999", split)
    assert ADAPTER.requested(fake_spec(tmp_path, hardware="h100"))["gpu_layers"] == "all"


@pytest.mark.parametrize("method", ["model", "eagle3", "mtp", "ngram"])
def test_drafts_have_their_own_words(tmp_path: Path, method: Any) -> None:
    draft = Draft(method=method, model=None if method in ("mtp", "ngram") else "/draft.gguf", tokens=6)
    recipe = replace(RECIPE, draft=draft)
    words = argv(tmp_path, recipe=recipe)
    assert value(words, "--spec-type") == ADAPTER.requested(fake_spec(tmp_path, recipe=recipe))["draft"]
    assert "6" in words
    assert ("/draft.gguf" in words) == (draft.model is not None)


@pytest.mark.parametrize(
    ("otherwise", "sentence"),
    [
        ({"recipe": replace(RECIPE, draft=Draft(method="medusa", model="/a", tokens=1))}, "no drafts by medusa"),
        ({"recipe": replace(RECIPE, lora=("/a/folder",))}, "GGUF files, with no comma"),
        ({"recipe": replace(RECIPE, lora=("/a,b.gguf",))}, "GGUF files, with no comma"),
        ({"recipe": replace(RECIPE, kv=KvFormat(k="fp8", v="fp8"))}, "no cache format fp8"),
        ({"parallel": Parallel(dp=2)}, "dp is 1"),
        ({"model_name": "a,b"}, "splits the name"),
        ({"checkpoint": "compressed"}, "serves GGUF files"),
    ],
)
def test_what_it_cannot_do_is_refused(tmp_path: Path, otherwise: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LaunchError, match=sentence):
        argv(tmp_path, **otherwise)


def test_every_flag_is_one_of_the_build_that_the_embedded_wheel_carries(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("xllamacpp")
    assert spec is not None
    (library,) = Path(spec.submodule_search_locations[0]).glob("xllamacpp*.so")  # type: ignore[index]
    known = library.read_bytes()
    drafts = (Draft(method="model", model="/d", tokens=1), Draft(method="ngram", model=None, tokens=1))
    recipes = [RECIPE, replace(RECIPE, lora=("/a.gguf",)), *(replace(RECIPE, draft=draft) for draft in drafts)]
    words = {word for recipe in recipes for word in argv(tmp_path, recipe=recipe, hardware="h100")}
    flags = {word for word in words if word.startswith("--")}
    assert len(flags) > 30
    assert [flag for flag in sorted(flags) if flag.encode() + b"\0" not in known] == []


def test_what_it_does_not_say_is_none() -> None:
    said = Said(log="", answers=dict.fromkeys(ADAPTER.asks), version="1")
    assert {name for name, told in ADAPTER.effective(said).items() if told is not None} == {"version"}


@pytest.fixture
def launch(tiny_gguf: Path, tmp_path: Path) -> Iterator[Launch]:
    """Launches the real binary, and stops it after the test."""
    binary = os.environ.get(BINARY)
    if not binary:
        pytest.skip(f"{BINARY} names no llama-server")
    engine = NodeEngine(name="llama-server", runtime=Program(path=Path(binary)))
    with contextlib.ExitStack() as sessions:

        def run(**otherwise: Any) -> EngineSession:
            spec = fake_spec(tmp_path, **{"model_path": tiny_gguf, **otherwise})
            return sessions.enter_context(start.start(LlamaServer(), engine, spec, lease.new_lease("test")))

        yield run


@pytest.mark.slow
@pytest.mark.engines
def test_the_real_binary_comes_up_as_asked(launch: Launch) -> None:
    session = launch()
    receipt = session.receipt
    assert receipt.differences == ()
    assert receipt.requested.keys() <= receipt.effective.keys()
    assert receipt.cold.load_s is not None
    assert receipt.cold.compile_s is not None
    assert "llamacpp:tokens_predicted_total 1" in session.metrics_text()


@pytest.mark.slow
@pytest.mark.engines
@pytest.mark.parametrize("kv", CACHES)
def test_the_real_binary_says_every_cache_format(launch: Launch, kv: str) -> None:
    receipt = launch(recipe=replace(RECIPE, kv=KvFormat(k=kv, v=kv))).receipt
    assert receipt.differences == ()
    assert receipt.effective["kv_k"] == receipt.effective["kv_v"] == kv


@pytest.mark.slow
@pytest.mark.engines
def test_the_real_binary_guesses_ahead_where_asked(launch: Launch) -> None:
    receipt = launch(recipe=replace(RECIPE, draft=Draft(method="ngram", model=None, tokens=4))).receipt
    assert receipt.differences == ()
    assert receipt.effective["draft"] == "ngram-simple"


@pytest.mark.slow
@pytest.mark.engines
def test_the_real_binary_keeps_nothing_between_requests(launch: Launch) -> None:
    base_url = launch(slots=1).receipt.base_url
    body = {"model": "tiny", "prompt": list(range(4, 100)), "max_tokens": 1}
    usage = [json.loads(ask(base_url, "/v1/completions", body=body, timeout_s=30))["usage"] for _ in range(2)]
    assert [one["prompt_tokens_details"]["cached_tokens"] for one in usage] == [0, 0]


@pytest.mark.slow
@pytest.mark.engines
def test_the_real_binary_takes_a_name_as_one_argument(launch: Launch) -> None:
    name = "--metrics $(id) 'a' \"b\" \u00e9"
    session = launch(model_name=name)
    assert session.receipt.differences == ()
    models = json.loads(ask(session.receipt.base_url, "/v1/models", timeout_s=9))
    assert models["data"][0]["id"] == name


@pytest.mark.slow
@pytest.mark.engines
@pytest.mark.parametrize(
    ("otherwise", "cause", "sentence"),
    [
        ({"args": ("--no-such-flag",)}, "arguments", "--no-such-flag"),
        ({"args": ("--threads",)}, "arguments", "--threads"),
        ({"args": ("--device", "CUDA7")}, "device", "CUDA7"),
    ],
)
def test_the_real_binary_says_in_a_word_why_it_does_not_start(
    launch: Launch, otherwise: dict[str, Any], cause: str, sentence: str
) -> None:
    with pytest.raises(LaunchError) as caught:
        launch(**otherwise)
    assert caught.value.cause == cause
    assert sentence in caught.value.reason


@pytest.mark.slow
@pytest.mark.engines
def test_the_real_binary_calls_a_broken_file_a_bad_model(launch: Launch, tiny_gguf: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_gguf.read_bytes()[:1000])
    with pytest.raises(LaunchError) as caught:
        launch(model_path=broken)
    assert caught.value.cause == "bad_model"
