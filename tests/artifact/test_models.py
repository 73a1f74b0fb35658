"""What a model of a matrix is: by name, by hub id, by folder; and each lack by its file, before anything starts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetbench.artifact import hf, models, source
from fleetbench.artifact.models import INDEX, FoundModel
from fleetbench.errors import InputError
from fleetbench.matrix.types import ModelSpec
from tests.artifact.folders import COMMIT, QWEN, WEIGHTS, cached, safetensors, write

MakeFolder = Callable[..., Path]
OTHER = "f" * 40
HUB = "meta-llama/Llama-3.1-8B-Instruct"
FP8 = {"model.layers.0.mlp.up_proj.weight": ("F8_E4M3", (96, 64)), "model.layers.0.mlp.up_proj.scale": ("F32", (1,))}


def spec(name: str, path: Path | None = None, **changes: Any) -> ModelSpec:
    return ModelSpec(name=name, path=str(path) if path else None, measure=("speed",), **changes)


def find(name: str, path: Path | None = None, **changes: Any) -> FoundModel:
    return models.find(spec(name, path, **changes))


def mistakes(name: str, path: Path | None = None, **changes: Any) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        find(name, path, **changes)
    return caught.value.mistakes


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's, so that no test finds what this machine happens to have."""
    cache = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    return cache


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    return write(tmp_path / "qwen", {"config.json": QWEN, "model.safetensors": WEIGHTS})


@pytest.mark.parametrize("name", ["tiny", "ladder-75m"])
def test_an_embedded_model_needs_no_folder_and_its_shape_counts_the_same_parameters(name: str) -> None:
    found = find(name)
    assert found.folder is None
    assert found.info.lacks is None
    shape = found.info.shape
    assert shape is not None
    assert shape.params == found.info.params
    assert (shape.vocab_tok, shape.max_context_tok) == (found.info.vocab_tok, found.info.max_context_tok)


@pytest.mark.parametrize("word", ["llama-3.1-8b", "LLAMA-3.1-8B", "llama3.1-8b", HUB, "meta-llama/Llama-3.1-8B"])
def test_a_published_model_is_known_by_name_alias_and_hub_id_and_says_that_its_weights_are_not_here(word: str) -> None:
    found = find(word.rsplit("/", 1)[-1], hub=word if "/" in word else None)
    assert found.folder is None
    assert found.info.hub == (word if "/" in word else HUB)
    assert found.info.lacks is not None
    assert f"{found.info.hub} are not on this machine" in found.info.lacks
    assert 8.0e9 < found.info.params < 8.1e9


def test_one_model_by_two_names_has_one_digest_and_another_revision_another() -> None:
    by_name, by_hub = find("llama-3.1-8b"), find("x", hub=HUB)
    assert by_name.info.digest == by_hub.info.digest
    assert find("x", hub=HUB, revision="v2").info.digest != by_hub.info.digest


def test_a_hub_model_that_nobody_here_knows_is_said_with_what_to_do() -> None:
    (mistake,) = mistakes("thing", hub="nobody/thing")
    assert mistake.startswith("model nobody/thing: ")
    assert "config.json" in mistake
    assert "fleetbench prepare" in mistake


def test_a_hub_model_in_the_local_cache_is_pinned_to_the_commit_that_main_was(hub_cache: Path) -> None:
    snapshot = cached(hub_cache, "org/qwen", {"config.json": QWEN, "model.safetensors": WEIGHTS})
    found = find("qwen", hub="org/qwen")
    assert (found.info.hub, found.info.revision, found.folder) == ("org/qwen", COMMIT, snapshot)
    assert found.info.lacks is None


def test_a_blob_that_is_named_by_its_sha256_is_not_read_again_and_gives_the_same_digest(
    hub_cache: Path, tmp_path: Path
) -> None:
    files = {"config.json": QWEN, "model.safetensors": WEIGHTS}
    snapshot = cached(hub_cache, "org/qwen", files)
    plain = find("qwen", write(tmp_path / "plain", files)).info.digest
    assert find("qwen", hub="org/qwen").info.digest == plain
    blob = (snapshot / "model.safetensors").resolve()
    blob.write_bytes(WEIGHTS[:-1] + b"\1")  # its name, not its content, is what counts
    assert find("qwen", hub="org/qwen").info.digest == plain


def test_a_revision_is_a_commit_a_branch_or_a_tag(hub_cache: Path) -> None:
    files = {"config.json": QWEN, "model.safetensors": WEIGHTS}
    cached(hub_cache, "org/qwen", files)
    changed: dict[str, Any] = {**files, "config.json": {**QWEN, "max_position_embeddings": 256}}
    cached(hub_cache, "org/qwen", changed, commit=OTHER, refs=("v2",))
    for revision, commit, context in ((None, COMMIT, 128), ("v2", OTHER, 256), (OTHER, OTHER, 256)):
        found = find("qwen", hub="org/qwen", revision=revision)
        assert (found.info.revision, found.info.max_context_tok) == (commit, context)
    assert "config.json" in mistakes("qwen", hub="org/qwen", revision="v3")[0]


def test_a_hub_model_that_was_fetched_in_part_lacks_its_weights_and_can_be_fetched_on(hub_cache: Path) -> None:
    files: dict[str, Any] = {
        "config.json": QWEN,
        INDEX: {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}},
    }
    cached(hub_cache, "org/qwen", {**files, "one.safetensors": WEIGHTS})
    found = find("qwen", hub="org/qwen")
    assert found.info.lacks is not None
    assert "not all on this machine" in found.info.lacks
    assert (found.info.hub, found.info.revision) == ("org/qwen", COMMIT)


def test_a_folder_with_a_config_alone_can_be_planned_with_and_says_what_it_lacks(tmp_path: Path) -> None:
    found = find("mine", write(tmp_path / "mine", {"config.json": QWEN}))
    assert found.info.lacks is not None
    assert "no *.safetensors" in found.info.lacks
    assert found.info.shape is not None
    assert found.info.shape.architecture == "Qwen2ForCausalLM"


def test_a_folder_of_another_architecture_with_weights_can_run(qwen: Path) -> None:
    found = find("qwen", qwen)
    assert (found.info.lacks, found.folder) == (None, qwen)
    changed = safetensors({"model.norm.weight": ("BF16", (64,)), "model.embed_tokens.weight": ("BF16", (100, 64))})
    (qwen / "model.safetensors").write_bytes(changed)
    assert find("qwen", qwen).info.digest != found.info.digest


def test_a_folder_that_is_quantized_already_is_whole_whatever_types_it_holds(tmp_path: Path) -> None:
    packed = {**FP8, "q.weight": ("I32", (8, 8)), "q.codes": ("U8", (4,)), "q.index": ("I64", (2,))}
    config = {**QWEN, "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    folder = write(tmp_path / "fp8", {"config.json": config, "model.safetensors": safetensors(packed)})
    found = find("fp8", folder)
    assert found.info.lacks is None
    assert found.info.shape is not None
    assert found.info.shape.quantized == "fp8"


def test_dummy_weights_need_a_config_and_nothing_else(tmp_path: Path) -> None:
    folder = write(tmp_path / "shape", {"config.json": QWEN})
    found = find("shape", folder, dummy=True)
    assert (found.info.dummy, found.info.random_weights, found.info.lacks) == (True, True, None)
    assert found.info.digest != find("shape", folder).info.digest


def test_a_llama_that_gguf_files_can_be_made_of_is_the_one_that_the_converter_sees(make_folder: MakeFolder) -> None:
    folder = make_folder()
    assert find("small", folder).info.digest == source.inspect("small", folder).digest


@pytest.mark.parametrize(
    "config",
    [
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 128}},
        {"attention_bias": True},
        {"mlp_bias": True},
    ],
)
def test_a_llama_beyond_the_gguf_conversion_is_still_a_model_for_other_engines(
    make_folder: MakeFolder, config: dict[str, Any]
) -> None:
    found = find("small", make_folder(**config))
    assert found.info.lacks is None
    assert found.info.suites == ()


def test_a_llama_with_sentencepiece_tokens_alone_is_a_model_for_other_engines(make_folder: MakeFolder) -> None:
    folder = make_folder()
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    assert find("small", folder).info.lacks is None


def test_weights_that_are_not_those_of_the_config_are_named(make_folder: MakeFolder) -> None:
    assert "the weights lack model.layers.2" in mistakes("small", make_folder(num_hidden_layers=3))[0]


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def _lengthen(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")


def _garble(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((9).to_bytes(8, "little") + b"{'no': 1}")


def _claim(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")


def _dangle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("gone")


def _fifo(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return make


def _text(name: str, text: str) -> Callable[[Path], None]:
    def write_it(folder: Path) -> None:
        (folder / name).write_text(text)

    return write_it


def _shards(*names: str) -> Callable[[Path], None]:
    return _text(INDEX, json.dumps({"weight_map": {f"tensor-{name}": name for name in names}}))


def _without(key: str) -> Callable[[Path], None]:
    return _text("config.json", json.dumps({name: value for name, value in QWEN.items() if name != key}))


@pytest.mark.parametrize(
    ("harm", "name", "said"),
    [
        (_truncate, "model.safetensors", "it is truncated"),
        (_lengthen, "model.safetensors", "bytes where its header describes"),
        (_garble, "model.safetensors", "its header is not JSON"),
        (_claim, "model.safetensors", "truncated or no safetensors file"),
        (_fifo("model.safetensors"), "model.safetensors", "not a regular file"),
        (_dangle, "model.safetensors", "No such file"),
        (_shards("model.safetensors", "gone.safetensors"), "gone.safetensors", "names it, and it is missing"),
        (_shards(*(f"{n}.safetensors" for n in range(200))), INDEX, "197 more files that are missing"),
        (_text(INDEX, "{}"), INDEX, "weight_map names no file"),
        (_text(INDEX, '{"weight_map": {"a": '), INDEX, "it is not JSON"),
        (_fifo(INDEX), INDEX, "not a regular file"),
        (_text("config.json", '{"architectures": '), "config.json", "it is not JSON"),
        (_text("config.json", "[1]"), "config.json", "not a JSON object"),
        (_text("config.json", "[" * 100_000), "config.json", "it is not JSON"),
        (_fifo("config.json"), "config.json", "not a regular file"),
        (_without("hidden_size"), "config.json", "hidden_size"),
        (_without("num_hidden_layers"), "config.json", "num_hidden_layers"),
        (_without("vocab_size"), "config.json", "vocab_size"),
        (_text("tokenizer.json", "{"), "tokenizer.json", "it is not JSON"),
        (_fifo("tokenizer.json"), "tokenizer.json", "not a regular file"),
    ],
)
def test_each_lack_of_a_checkpoint_is_named_by_its_file(
    qwen: Path, harm: Callable[[Path], None], name: str, said: str
) -> None:
    harm(qwen)
    found = mistakes("qwen", qwen)
    assert any(one.startswith(f"{qwen / name}: ") and said in one for one in found), found
    assert len(found) <= 4


def test_several_lacks_come_at_once(qwen: Path) -> None:
    shutil.copy(qwen / "model.safetensors", qwen / "other.safetensors")
    for name in ("model.safetensors", "other.safetensors"):
        (qwen / name).write_bytes(b"short")
    assert len(mistakes("qwen", qwen)) == 2


@pytest.mark.parametrize("name", ["nowhere", "x" * 400])
def test_a_folder_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    assert "no such folder" in mistakes("mine", tmp_path / name)[0]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_of_json_is_a_broken_config(qwen: Path, word: str) -> None:
    config = (qwen / hf.CONFIG).read_text()
    (qwen / hf.CONFIG).write_text(config.replace("{", f'{{"rope_theta_of_mine": {word}, ', 1))
    assert "not JSON" in mistakes("qwen", qwen)[0]


def test_a_name_too_long_for_a_file_is_missing(qwen: Path) -> None:
    (qwen / INDEX).write_text(json.dumps({"weight_map": {"a": "x" * 400}}))
    assert "it is missing" in mistakes("qwen", qwen)[0]


def test_a_link_to_a_device_is_never_read(qwen: Path) -> None:
    (qwen / hf.CONFIG).unlink()
    (qwen / hf.CONFIG).symlink_to("/dev/zero")
    assert "not a regular file" in mistakes("qwen", qwen)[0]
