"""vLLM really started by the generic start: what was asked for is what runs, and what fails says why in a word."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetbench.engine import lease, start
from fleetbench.engine.client import ask
from fleetbench.engine.protocol import LaunchError, LaunchSpec
from fleetbench.engine.runtime import NodeEngine, Venv
from fleetbench.engine.session import EngineSession
from fleetbench.engine.vllm import Vllm
from fleetbench.matrix.types import Draft, KvFormat, Recipe
from fleetbench_collectors.engine import prometheus
from tests.engines.checkpoints import FP8_DYNAMIC, W4A16, W8A8, W8A16, write_adapter

pytestmark = [pytest.mark.slow, pytest.mark.engines]

EAGER = ("--enforce-eager",)
KV16 = KvFormat(k="bf16", v="bf16")
BF16 = Recipe(name="bf16", weights="bf16", activations="bf16", kv=KV16)
CANONICAL = {
    "prompt_tok_total",
    "output_tok_total",
    "prompt_cached_tok_total",
    "requests_running",
    "requests_waiting",
    "kv_usage_ratio",
}
Shape = Callable[[dict[str, Any] | None], Path]


@pytest.fixture
def launch(vllm_venv: Path, tmp_path: Path) -> Callable[..., EngineSession]:
    engine = NodeEngine(name="vllm", runtime=Venv(path=vllm_venv), env={"VLLM_CPU_KVCACHE_SPACE": "1"})

    def run(folder: Path, recipe: Recipe, **more: Any) -> EngineSession:
        values: dict[str, Any] = {
            "model_path": folder,
            "model_name": "tiny",
            "checkpoint": "source",
            "recipe": recipe,
            "slots": 4,
            "context_tok": 512,
            "threads": 1,
            "seed": 7,
            "args": EAGER,
            "log": tmp_path / "vllm.log",
            "timeout_s": 300,
            **more,
        }
        return start.start(Vllm(), engine, LaunchSpec(**values), lease.new_lease("tests"))

    return run


def test_the_trained_model_in_bf16_is_what_runs_and_caches_nothing(
    launch: Callable[..., EngineSession], tiny_folder: Path
) -> None:
    with launch(tiny_folder, BF16, args=(), kernel="gemm16") as session:
        receipt = session.receipt
        assert receipt.differences == ()
        assert receipt.effective["quantized_layers"] == 0
        assert receipt.effective["layers"] == 12
        assert receipt.effective["attention_kernel"] == "cpu_attn"
        assert receipt.cold.read_s is not None
        assert receipt.cold.compile_s is not None
        assert receipt.cold.first_token_s is not None
        body = {"model": "tiny", "prompt": [1, *range(10, 110)], "max_tokens": 8, "ignore_eos": True}
        for _ in range(2):
            ask(receipt.base_url, "/v1/completions", body=body, timeout_s=60)
        told = prometheus.values(session.metrics_text())
        assert {name.partition("{")[0] for name, _ in told} >= CANONICAL
        assert prometheus.total(told, prometheus.CACHED) == 0
        assert prometheus.total(told, "output_tok_total") == 17


KERNELS = [
    ("w8a8", W8A8, Recipe(name="w8a8", weights="int8", activations="int8", kv=KV16), "int8"),
    ("w4a16", W4A16, Recipe(name="w4a16", weights="int4", activations="bf16", kv=KV16, group_size=128), "cpu"),
    ("fp8", FP8_DYNAMIC, Recipe(name="fp8", weights="fp8", activations="fp8", scales="dynamic", kv=KV16), "torch"),
    (
        "kv8",
        None,
        Recipe(name="kv8", weights="bf16", activations="bf16", kv=KvFormat(k="fp8", v="fp8")),
        "gemm16",
    ),
]


@pytest.mark.parametrize(
    ("quantization", "recipe", "kernel"), [row[1:] for row in KERNELS], ids=[row[0] for row in KERNELS]
)
def test_random_weights_of_every_format_are_applied(
    launch: Callable[..., EngineSession], shape: Shape, quantization: dict[str, Any] | None, recipe: Recipe, kernel: str
) -> None:
    checkpoint = "source" if quantization is None else "compressed"
    with launch(shape(quantization), recipe, checkpoint=checkpoint, dummy=True, kernel=kernel) as session:
        assert session.receipt.differences == ()
        assert session.receipt.effective["quantized_layers"] == (0 if quantization is None else 12)
        assert session.receipt.effective["kv_k"] == recipe.kv.k


def test_an_fp8_cache_holds_twice_the_tokens(launch: Callable[..., EngineSession], shape: Shape) -> None:
    rooms = []
    for kv in (KV16, KvFormat(k="fp8", v="fp8")):
        recipe = Recipe(name="any", weights="bf16", activations="bf16", kv=kv)
        with launch(shape(None), recipe, dummy=True) as session:
            rooms.append(session.receipt.effective["kv_tok"])
    assert rooms[1] == pytest.approx(2 * rooms[0], rel=0.01)


def test_fp8_of_the_models_own_weights_is_made_while_they_load(
    launch: Callable[..., EngineSession], tiny_folder: Path
) -> None:
    recipe = Recipe(name="fp8", weights="fp8", activations="fp8", scales="dynamic", kv=KV16)
    with launch(tiny_folder, recipe) as session:
        assert session.receipt.differences == ()
        assert session.receipt.effective["quantized_layers"] == 12


def test_int8_that_touches_no_layer_is_found_out(launch: Callable[..., EngineSession], tiny_folder: Path) -> None:
    recipe = Recipe(name="int8", weights="int8", activations="bf16", kv=KV16)
    with launch(tiny_folder, recipe) as session:
        assert "Quantizing 0 layers" in session.log.read_text()
        assert session.receipt.differences == ("quantized: asked for True, the engine runs False",)


def test_a_quantization_that_the_node_adds_and_that_does_nothing_is_found_out(
    launch: Callable[..., EngineSession], tiny_folder: Path
) -> None:
    args = (*EAGER, "--quantization", "int8_per_channel_weight_only")
    with launch(tiny_folder, BF16, args=args) as session:
        assert session.receipt.differences == ("quantized: asked for True, the engine runs False",)


def test_an_attention_backend_that_is_silently_replaced_is_found_out(
    launch: Callable[..., EngineSession], shape: Shape
) -> None:
    args = (*EAGER, "--attention-backend", "FLASH_ATTN")
    with launch(shape(None), BF16, dummy=True, args=args) as session:
        assert session.receipt.differences == ("attention_kernel: asked for flash_attn, the engine runs cpu_attn",)


def test_a_draft_by_ngrams_is_applied(launch: Callable[..., EngineSession], tiny_folder: Path) -> None:
    recipe = Recipe(
        name="ngram",
        weights="bf16",
        activations="bf16",
        kv=KV16,
        draft=Draft(method="ngram", model=None, tokens=3),
    )
    with launch(tiny_folder, recipe) as session:
        assert session.receipt.differences == ()
        assert (session.receipt.effective["draft"], session.receipt.effective["draft_tok"]) == ("ngram", 3)


def test_an_adapter_is_served_beside_the_base(
    launch: Callable[..., EngineSession], tiny_folder: Path, tmp_path: Path
) -> None:
    write_adapter(tmp_path / "style", layers=3, width=256, rank=8)
    recipe = replace(BF16, lora=(str(tmp_path / "style"),))
    with launch(tiny_folder, recipe) as session:
        assert session.receipt.differences == ()
        assert session.receipt.effective["lora"] == ["style"]
        body = {"model": "style", "prompt": [1, 2, 3], "max_tokens": 2, "ignore_eos": True}
        assert ask(session.receipt.base_url, "/v1/completions", body=body, timeout_s=60)


def test_a_context_longer_than_the_models_is_an_argument(launch: Callable[..., EngineSession], shape: Shape) -> None:
    with pytest.raises(LaunchError, match="greater than the derived max_model_len") as failed:
        launch(shape(None), BF16, dummy=True, context_tok=4096)
    assert failed.value.cause == "arguments"
    assert failed.value.log_tail


def test_an_unknown_flag_is_refused_before_the_start(
    launch: Callable[..., EngineSession], shape: Shape, tmp_path: Path
) -> None:
    with pytest.raises(LaunchError, match="has no --enforce-eagerly") as failed:
        launch(shape(None), BF16, dummy=True, args=("--enforce-eagerly",))
    assert failed.value.cause == "arguments"
    assert not (tmp_path / "vllm.log").exists()


def test_a_folder_without_weights_is_a_missing_file(launch: Callable[..., EngineSession], shape: Shape) -> None:
    with pytest.raises(LaunchError, match="Cannot find any model weights") as failed:
        launch(shape(None), BF16)
    assert failed.value.cause == "missing_file"


def test_a_folder_without_a_config_is_a_bad_model(launch: Callable[..., EngineSession], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LaunchError) as failed:
        launch(tmp_path / "empty", BF16)
    assert failed.value.cause == "bad_model"


def test_weights_that_were_cut_short_are_a_bad_model(
    launch: Callable[..., EngineSession], shape: Shape, tiny_folder: Path
) -> None:
    folder = shape(None)
    whole = (tiny_folder / "model.safetensors").read_bytes()
    with _file(folder / "model.safetensors", whole[: len(whole) // 2]), pytest.raises(LaunchError) as failed:
        launch(folder, BF16)
    assert failed.value.cause == "bad_model"


def test_a_format_without_a_kernel_is_unsupported(launch: Callable[..., EngineSession], shape: Shape) -> None:
    recipe = Recipe(name="w8a16", weights="int8", activations="bf16", kv=KV16)
    with pytest.raises(LaunchError, match="Failed to find a kernel") as failed:
        launch(shape(W8A16), recipe, checkpoint="compressed", dummy=True)
    assert failed.value.cause == "unsupported"


def test_a_taken_port_is_a_port(launch: Callable[..., EngineSession], shape: Shape) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(LaunchError) as failed:
        launch(shape(None), BF16, dummy=True, port=taken.getsockname()[1])
    assert failed.value.cause == "port"


@contextmanager
def _file(path: Path, content: bytes) -> Iterator[None]:
    path.write_bytes(content)
    try:
        yield
    finally:
        path.unlink()
