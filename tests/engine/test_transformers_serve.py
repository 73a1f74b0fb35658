from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fleetbench.artifact
from fleetbench.engine import lease, start
from fleetbench.engine.protocol import LaunchError, LaunchSpec, Said
from fleetbench.engine.runtime import NodeEngine, Venv
from fleetbench.engine.transformers_serve import TransformersServe
from fleetbench.matrix.types import Draft, KvFormat, Parallel, Recipe
from tests.engine.conftest import fake_spec

VENV = "FLEETBENCH_TRANSFORMERS_VENV"
"""Names a virtual environment with transformers[serving] and torch for the slow tests."""
RECIPE = Recipe(name="bf16", weights="bf16", activations="bf16", kv=KvFormat(k="bf16", v="bf16"))
ADAPTER = TransformersServe()
LOG = """\
Loading weights:   0%|          | 0/30 [00:00<?, ?it/s]\rLoading weights: 100%|###| 30/30 [01:02<00:00, 423.39it/s]
[transformers] [Request received] Model: /m, CB: True
"""


def spec(tmp_path: Path, **otherwise: Any) -> LaunchSpec:
    common = {"model_path": tmp_path, "checkpoint": "source", "recipe": RECIPE}
    return fake_spec(tmp_path, **{**common, **otherwise})


def test_one_request_at_a_time_needs_no_batching(tmp_path: Path) -> None:
    words = ADAPTER.command(spec(tmp_path, slots=1, args=("--compile",)), "5.24.0", tmp_path, 77).argv
    assert words[:3] == ("transformers", "serve", str(tmp_path))
    assert words[-1] == "--compile"
    assert dict(zip(words[3:-1:2], words[4:-1:2], strict=True)) == {
        "--host": "127.0.0.1",
        "--port": "77",
        "--log-level": "info",
        "--device": "cpu",
        "--dtype": "bfloat16",
        "--default-seed": "7",
    }


def test_several_requests_get_as_much_cache_as_they_may_fill(tmp_path: Path) -> None:
    words = ADAPTER.command(spec(tmp_path, slots=3, context_tok=100), "5.24.0", tmp_path, 77).argv
    at = words.index("--continuous-batching")
    assert words[at + 1 : at + 5] == ("--cb-block-size", "32", "--cb-num-blocks", "15")


def test_a_gpu_is_left_to_it_and_a_format_that_it_makes_is_named(tmp_path: Path) -> None:
    recipe = replace(RECIPE, weights="nf4")
    words = ADAPTER.command(spec(tmp_path, hardware="h100", recipe=recipe), "5.24.0", tmp_path, 77).argv
    assert words[words.index("--device") + 1] == "auto"
    assert words[words.index("--quantization") + 1] == "bnb-4bit"
    assert words[words.index("--dtype") + 1] == "bfloat16"


def test_requests_call_the_model_by_its_path(tmp_path: Path) -> None:
    assert ADAPTER.command(spec(tmp_path), "5.24.0", tmp_path, 77).alias == str(tmp_path)


@pytest.mark.parametrize(
    ("otherwise", "sentence"),
    [
        ({"checkpoint": "gguf"}, "no GGUF file"),
        ({"dummy": True}, "no weights without a file"),
        ({"parallel": Parallel(tp=2)}, "no tensor, pipeline or data parallelism"),
        ({"recipe": replace(RECIPE, lora=("/a",))}, "no option for LoRA"),
        ({"recipe": replace(RECIPE, draft=Draft(method="ngram", model=None, tokens=1))}, "no option for drafts"),
        ({"recipe": replace(RECIPE, kv=KvFormat(k="fp8", v="fp8"))}, "no cache format fp8"),
        ({"recipe": replace(RECIPE, weights="int4")}, "does not make int4"),
    ],
)
def test_what_it_cannot_do_is_refused(tmp_path: Path, otherwise: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LaunchError, match=sentence) as caught:
        ADAPTER.command(spec(tmp_path, **otherwise), "5.24.0", tmp_path, 77)
    assert caught.value.cause == "unsupported"


def test_what_it_says_is_read() -> None:
    models = {"data": [{"id": "/m", "status": {"value": "loaded"}}]}
    told = ADAPTER.effective(Said(log=LOG, answers={"/v1/models": models}, version="5.24.0"))
    assert told == {"version": "5.24.0", "model": "/m", "loaded": True, "continuous_batching": True}
    assert ADAPTER.cold(LOG).load_s == 62.0


@pytest.mark.parametrize("answer", [None, [], {}, {"data": []}, {"data": [1]}, {"data": [{"status": 3}]}, "text"])
def test_what_it_does_not_say_is_none(answer: Any) -> None:
    told = ADAPTER.effective(Said(log="", answers={"/v1/models": answer}, version="1"))
    assert {name for name, one in told.items() if one is not None} == {"version"}
    assert ADAPTER.cold("").load_s is None


@pytest.mark.slow
@pytest.mark.engines
@pytest.mark.parametrize("slots", [1, 2])
def test_the_real_server_comes_up_as_asked(tmp_path: Path, slots: int) -> None:
    venv = os.environ.get(VENV)
    if not venv:
        pytest.skip(f"{VENV} names no virtual environment")
    model = Path(fleetbench.artifact.__file__).parent / "tiny"
    engine = NodeEngine(name="transformers", runtime=Venv(path=Path(venv)))
    asked = spec(tmp_path, model_path=model, slots=slots, timeout_s=120)
    with start.start(ADAPTER, engine, asked, lease.new_lease("test")) as session:
        assert session.receipt.differences == ()
        assert session.receipt.model_alias == str(model)
        assert session.receipt.cold.load_s is not None
        assert session.alive()
