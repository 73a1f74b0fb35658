"""The checkpoint of a launch: found, made, or why it cannot be had, said before anything is installed or started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetbench.artifact import making, models, supply, toolenv
from fleetbench.artifact.need import Need
from fleetbench.artifact.types import ArtifactError
from fleetbench.catalog import lookup
from fleetbench.matrix.identity import artifact_id
from fleetbench.matrix.resolve import resolve
from fleetbench.matrix.types import Calibration, ModelSpec, Recipe
from tests.artifact.folders import QWEN, WEIGHTS, safetensors, write

MakeFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would install llmcompressor fails at once, by the variable that names another Python for it."""
    monkeypatch.setenv(toolenv.VARIABLE, "/nowhere/bin/python")


def need(engine: str, weights: str, folder: Path | None = None, name: str = "mine", **changes: Any) -> Need:
    dummy = changes.pop("dummy", False)
    spec = ModelSpec(name=name, path=str(folder) if folder else None, measure=("speed",), dummy=dummy)
    found = models.find(spec)
    shape = found.info.shape
    assert shape is not None
    recipe = resolve(Recipe(name="r", weights=weights, **changes), lookup.engine_spec(engine), shape.dtype)
    identity = artifact_id(found.info.digest, recipe, "tools")
    return Need(artifact_id=identity, engine=engine, recipe=recipe, model=found.info, folder=found.folder)


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    return write(tmp_path / "qwen", {"config.json": QWEN, "model.safetensors": WEIGHTS})


def refused(asked: Need, cache: Path) -> str:
    """Why it cannot be had: the same by either way of asking, and nothing was made on the way."""
    why = making.lacks(asked, cache)
    assert why is not None
    with pytest.raises(ArtifactError) as caught:
        supply.supply(asked, cache)
    assert str(caught.value) == why
    assert not cache.exists()
    return why


def test_a_gguf_file_is_made_once_and_then_found(tmp_path: Path) -> None:
    asked = need("llamacpp", "q4_k", name="tiny")
    assert making.lacks(asked, tmp_path) is None
    made = supply.supply(asked, tmp_path)
    assert made is not None
    assert made.build_s is not None
    assert made.path.read_bytes()[:4] == b"GGUF"
    assert made.bytes == made.path.stat().st_size
    again = supply.supply(asked, tmp_path)
    assert again is not None
    assert (again.path, again.build_s, again.tool) == (made.path, None, made.tool)


def test_a_folder_is_its_own_checkpoint(qwen: Path, tmp_path: Path) -> None:
    asked = need("vllm", "bf16", qwen)
    assert making.lacks(asked, tmp_path) is None
    found = supply.supply(asked, tmp_path)
    assert found is not None
    assert (found.path, found.build_s) == (qwen, None)
    assert found.bytes == sum(path.stat().st_size for path in qwen.iterdir())


def test_dummy_weights_run_from_a_config_where_the_engine_makes_them(tmp_path: Path) -> None:
    folder = write(tmp_path / "shape", {"config.json": QWEN})
    assert making.lacks(need("vllm", "bf16", folder, dummy=True), tmp_path / "cache") is None
    assert making.lacks(need("vllm", "fp8", folder, dummy=True), tmp_path / "cache") is None
    why = refused(need("llama-server", "q4_k_m", folder, dummy=True), tmp_path / "cache")
    assert "remove dummy" in why
    assert "nothing is there to round" in refused(need("vllm", "int4", folder, dummy=True), tmp_path / "cache")


def test_weights_that_are_not_here_are_not_fetched(tmp_path: Path) -> None:
    for engine, weights in (("vllm", "bf16"), ("vllm", "int4"), ("llama-server", "q4_k_m")):
        why = refused(need(engine, weights, name="llama-3.1-8b"), tmp_path / "cache")
        assert "fleetbench prepare" in why


def test_a_server_that_runs_already_needs_no_checkpoint_here(tmp_path: Path) -> None:
    asked = need("endpoint", "bf16", name="llama-3.1-8b")
    assert making.lacks(asked, tmp_path) is None
    assert supply.supply(asked, tmp_path) is None


def test_gguf_files_are_made_of_llamas_of_16_bits_alone(qwen: Path, tmp_path: Path, make_folder: MakeFolder) -> None:
    cache = tmp_path / "cache"
    assert "Qwen2ForCausalLM" in refused(need("llamacpp", "q4_k", qwen), cache)
    quantized = make_folder("quantized", quantization_config={"quant_method": "fp8"})
    (quantized / "model.safetensors").write_bytes(safetensors({"w": ("F8_E4M3", (4, 4))}))
    assert "quantized already (fp8)" in refused(need("llamacpp", "q4_k", quantized), cache)
    scaled = make_folder("scaled", rope_scaling={"rope_type": "llama3", "factor": 8.0})
    assert "rotary scaling 'llama3'" in refused(need("llamacpp", "q4_k", scaled), cache)
    assert making.lacks(need("vllm", "bf16", scaled), cache) is None


def test_what_llmcompressor_makes_not_at_all_is_said_before_it_is_installed(qwen: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert "nf4" in refused(need("vllm", "nf4", qwen), cache)
    assert "calibration" in refused(need("vllm", "int4", qwen, method="gptq"), cache)
    why = refused(need("vllm", "int4", qwen, protect=("first 2",), method="hqq"), cache)
    assert "hqq" in why


def test_a_model_that_is_quantized_already_is_its_own_checkpoint(tmp_path: Path) -> None:
    config = {**QWEN, "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    files = {"config.json": config, "model.safetensors": safetensors({"w": ("F8_E4M3", (4, 4))})}
    folder = write(tmp_path / "fp8", files)
    assert making.lacks(need("vllm", "fp8", folder), tmp_path / "cache") is None


def test_a_tool_that_is_named_and_not_there_is_said(qwen: Path, tmp_path: Path) -> None:
    assert toolenv.VARIABLE in refused(need("vllm", "int4", qwen), tmp_path / "cache")


def test_a_tool_that_is_not_installed_yet_is_no_reason_for_prepare(
    qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(toolenv.VARIABLE)
    why = making.lacks(need("vllm", "int4", qwen), tmp_path)
    assert why is not None
    assert "not installed yet" in why
    assert "fleetbench prepare" in why


def test_an_embedded_model_without_a_folder_cannot_be_compressed(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="ladder-75m is made as a GGUF file alone"):
        supply.supply(need("vllm", "int4", name="ladder-75m"), tmp_path)


def test_a_folder_that_went_away_is_a_sentence(qwen: Path, tmp_path: Path) -> None:
    asked = need("vllm", "bf16", qwen)
    for path in qwen.iterdir():
        path.unlink()
    qwen.rmdir()
    with pytest.raises(ArtifactError, match="it was there when it was planned"):
        supply.supply(asked, tmp_path)


@pytest.mark.parametrize("harm", [lambda text: text.write_text("other words"), lambda text: text.unlink()])
def test_a_text_that_changed_since_it_was_planned_is_not_calibrated_with(
    qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    text = tmp_path / "corpus.txt"
    text.write_text("some words")
    planned = need("vllm", "int4", qwen, method="gptq", calibration=Calibration(path=str(text), sha256="a" * 64))
    monkeypatch.setattr(toolenv, "ensure", print)  # no tool is reached: the text is looked at first
    harm(text)
    with pytest.raises(ArtifactError, match="changed since it was planned"):
        supply.supply(planned, tmp_path / "cache")
