from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fleetbench.artifact.checkpoint import check, read_tensors
from fleetbench.artifact.compressed import ignored, scheme
from fleetbench.artifact.types import ArtifactError
from fleetbench.matrix.types import Calibration, KvFormat, Recipe

LAYER = "model.layers.{}.mlp.up_proj"
FP8 = scheme(Recipe(name="r", weights="fp8"))
WITH_CACHE = scheme(
    Recipe(name="r", weights="fp8", kv=KvFormat(k="fp8", v="fp8"), calibration=Calibration(path="corpus.txt"))
)
NUMBERS = {"num_bits": 8, "type": "float", "group_size": None}
SAID: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "config_groups": {
        "group_0": {
            "weights": {**NUMBERS, "strategy": "channel", "dynamic": False},
            "input_activations": {**NUMBERS, "strategy": "token", "dynamic": True},
        }
    },
    "kv_cache_scheme": None,
}
QUANTIZED = {
    LAYER.format(n) + end: kind for n in (0, 1) for end, kind in ((".weight", "F8_E4M3"), (".weight_scale", "BF16"))
}
PLAIN = {"lm_head.weight": "BF16"}
WIDTH = {"F8_E4M3": 1, "BF16": 2}


def save(path: Path, tensors: Mapping[str, str]) -> None:
    """A safetensors file of four numbers a tensor."""
    header, end = {}, 0
    for name, kind in tensors.items():
        header[name] = {"dtype": kind, "shape": [2, 2], "data_offsets": [end, end + 4 * WIDTH[kind]]}
        end += 4 * WIDTH[kind]
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(end))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of two FP8 layers and an output in BF16."""
    save(tmp_path / "model.safetensors", QUANTIZED | PLAIN)
    describe(tmp_path)
    return tmp_path


def describe(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps({"quantization_config": SAID | changes}))


def checked(folder: Path, *, layers: int = 2, protect: tuple[str, ...] = ()) -> None:
    check(folder, FP8, ignored=ignored(protect, layers=4), layers=layers, attentions=0)


def test_a_checkpoint_as_asked_passes(folder: Path) -> None:
    checked(folder)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"quant_method": "fp8"}, "no compressed-tensors quantization"),
        ({"format": "pack-quantized"}, "'pack-quantized', asked for was 'float-quantized'"),
        ({"config_groups": {}}, "0 groups"),
        (
            {"config_groups": {"group_0": {"weights": SAID["config_groups"]["group_0"]["weights"]}}},
            "input_activations is null",
        ),
        ({"kv_cache_scheme": {**NUMBERS, "strategy": "tensor", "dynamic": False}}, "kv_cache_scheme is"),
    ],
)
def test_a_config_that_says_something_else_is_caught(folder: Path, changes: dict[str, Any], why: str) -> None:
    describe(folder, **changes)
    with pytest.raises(ArtifactError, match=why):
        checked(folder)


def test_a_config_that_says_fp8_over_weights_that_are_not_is_caught(folder: Path) -> None:
    save(folder / "model.safetensors", {LAYER.format(0) + ".weight": "BF16", **PLAIN})
    with pytest.raises(ArtifactError, match="quantized 0 layers"):
        checked(folder)


def test_a_scale_beside_a_wide_weight_is_caught(folder: Path) -> None:
    save(folder / "model.safetensors", QUANTIZED | {LAYER.format(1) + ".weight": "BF16"})
    with pytest.raises(ArtifactError, match=r"hold no F8_E4M3 weights: model.layers.1"):
        checked(folder)


def test_a_layer_that_was_left_out_is_caught(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="2 layers are quantized where 3 should be"):
        checked(folder, layers=3)


def test_a_protected_layer_that_was_quantized_is_caught(folder: Path) -> None:
    with pytest.raises(ArtifactError, match=r"protected layers were quantized: model.layers.0"):
        checked(folder, protect=("first 1",))


def test_a_cache_without_scales_is_caught(folder: Path) -> None:
    describe(folder, kv_cache_scheme={**NUMBERS, "strategy": "tensor", "dynamic": False})
    with pytest.raises(ArtifactError, match="0 of 2 layers have a scale k_scale"):
        check(folder, WITH_CACHE, ignored=(), layers=2, attentions=2)


def test_a_file_cut_short_is_caught(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="truncated"):
        checked(folder)


@pytest.mark.parametrize("raw", [b"", b"\x10", (1 << 60).to_bytes(8, "little"), (4).to_bytes(8, "little") + b"null"])
def test_a_file_that_is_none_is_caught(folder: Path, raw: bytes) -> None:
    (folder / "model.safetensors").write_bytes(raw)
    with pytest.raises(ArtifactError, match=r"truncated|broken"):
        read_tensors(folder)


def test_an_index_must_name_what_the_files_hold(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    save(folder / "model-00002-of-00002.safetensors", {"model.norm.weight": "BF16"})
    with pytest.raises(ArtifactError, match=r"2 weights files and no model.safetensors.index.json"):
        read_tensors(folder)
    where = dict.fromkeys(QUANTIZED | PLAIN, "model-00001-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    with pytest.raises(ArtifactError, match="does not name the tensors"):
        read_tensors(folder)
    index.write_text(json.dumps({"weight_map": where | {"model.norm.weight": "model-00002-of-00002.safetensors"}}))
    assert len(read_tensors(folder)) == 6
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ArtifactError, match="does not name the tensors"):
        read_tensors(folder)
