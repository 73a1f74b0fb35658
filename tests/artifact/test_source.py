from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from fleetbench.artifact import source
from fleetbench.errors import InputError


def mistakes(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        source.inspect("m", folder)
    assert all(str(folder) in mistake for mistake in caught.value.mistakes)
    return str(caught.value)


def test_the_tiny_model_is_found_with_its_suite() -> None:
    found = source.inspect("tiny", None)
    assert (found.params, found.vocab_tok, found.max_context_tok) == (2_033_408, 128, 1024)
    assert found.suites == ("embedded",)
    assert not found.random_weights


def test_the_ladder_is_random_and_has_no_suite() -> None:
    found = source.inspect("ladder-75m", None)
    assert 70e6 < found.params < 80e6
    assert found.random_weights
    assert found.suites == ()
    assert found.digest != source.inspect("tiny", None).digest


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"model giant: .*tiny, ladder-75m"):
        source.inspect("giant", None)


def test_a_folder_is_described_by_its_own_sizes(make_folder: Any) -> None:
    found = source.inspect("small", make_folder())
    assert (found.vocab_tok, found.max_context_tok) == (100, 128)
    assert found.params == 2 * 100 * 64 + 64 + 2 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96)
    assert found.suites == ()


def test_a_copy_elsewhere_has_the_same_digest_and_a_changed_one_another(make_folder: Any) -> None:
    one, other, changed = make_folder("one"), make_folder("other"), make_folder("changed", rope_theta=5e5)
    assert source.inspect("a", one).digest == source.inspect("b", other).digest
    assert source.inspect("a", changed).digest != source.inspect("a", one).digest


def test_a_copy_of_the_tiny_model_can_be_asked_the_suite(tmp_path: Path) -> None:
    shipped = Path(source.__file__).parent / "tiny"
    copy = shutil.copytree(shipped, tmp_path / "copy")
    found, own = source.inspect("mine", copy), source.inspect("tiny", None)
    assert (found.suites, found.digest) == (own.suites, own.digest)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    assert "no such folder" in mistakes(tmp_path / "nowhere")


def test_an_empty_folder_lacks_everything_at_once(tmp_path: Path) -> None:
    text = mistakes(tmp_path)
    assert "config.json: No such file" in text
    assert "tokenizer.json: No such file" in text
    assert "no *.safetensors" in text


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "only ['LlamaForCausalLM'] is supported"),
        ({"hidden_size": None}, "hidden_size: input should be a valid integer"),
        ({"hidden_size": 0}, "hidden_size: input should be greater than 0"),
        ({"hidden_size": True}, "hidden_size: "),
        ({"vocab_size": 10**12}, "vocab_size: "),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: "),
        ({"num_key_value_heads": 3}, "no multiple of num_key_value_heads 3"),
        ({"head_dim": 15}, "head_dim 15 is odd"),
        ({"attention_bias": True}, "attention_bias True is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rotary scaling 'llama3'"),
        ({"rope_parameters": {"rope_theta": "big"}}, "rope_theta 'big'"),
        ({"num_hidden_layers": 3}, "lack model.layers.2.input_layernorm.weight, "),
        ({"num_hidden_layers": 1}, "which a Llama does not have"),
        ({"intermediate_size": 97}, "asks for [97, 64]"),
        ({"bos_token_id": 100}, "bos_token_id 100"),
        ({"vocab_size": 90}, "token id 90"),
    ],
)
def test_a_config_that_does_not_fit_is_named(make_folder: Any, config: dict[str, Any], what: str) -> None:
    assert what in mistakes(make_folder(**config))


def test_a_missing_key_is_named(make_folder: Any) -> None:
    folder = make_folder()
    config = json.loads((folder / "config.json").read_text())
    del config["rms_norm_eps"]
    (folder / "config.json").write_text(json.dumps(config))
    assert "rms_norm_eps: field required" in mistakes(folder)


def test_several_mistakes_come_at_once(make_folder: Any) -> None:
    folder = make_folder(attention_bias=True, hidden_act="relu")
    (folder / "tokenizer.json").write_text("{")
    assert len(mistakes(folder).splitlines()) == 3


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b'{"a": ', b"[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_broken_json_file_is_named(make_folder: Any, name: str, content: bytes) -> None:
    folder = make_folder()
    (folder / name).write_bytes(content)
    assert name in mistakes(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_never_opened(make_folder: Any, name: str, make: Any) -> None:
    folder = make_folder()
    (folder / name).unlink()
    make(folder / name)
    assert f"{name}: not a regular file" in mistakes(folder)


def test_truncated_weights_are_named(make_folder: Any) -> None:
    folder = make_folder()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "model.safetensors: it is truncated" in mistakes(folder)


def test_weights_in_several_files_are_read_and_doubles_refused(make_folder: Any) -> None:
    folder = make_folder()
    shutil.copy(folder / "model.safetensors", folder / "twice.safetensors")
    assert "stands in model.safetensors too" in mistakes(folder)


def test_the_toolchain_names_versions() -> None:
    assert source.toolchain().startswith("gguf 0.")
    assert "xllamacpp 20" in source.toolchain()
