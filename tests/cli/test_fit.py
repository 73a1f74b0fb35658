"""`fleetbench fit`: one question, every part of the sum, and every wrong name with the nearest right ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from fleetbench.catalog import lookup
from tests.artifact.folders import QWEN, WEIGHTS, cached, write
from tests.cli.inside import inside
from tests.cli.shell import fleetbench

TERMS = ("weights", "kv", "activations", "overhead")
KEYS = {
    "model", "params", "active_params", "recipe", "gpu", "memory_bytes", "usable_bytes", "batch", "context_tok", "tp",
    "pp", "parts", "weights_bytes", "kv_bytes", "activations_bytes", "overhead_bytes", "total_bytes", "fits", "degrees",
    "smallest_tp", "largest_batch", "largest_context_tok", "ttft_floor_ms", "itl_floor_ms", "floors", "engine",
    "ttft_prompt_tok", "guessed", "uncounted",
}  # fmt: skip


def asked(folder: Path, *words: str) -> dict[str, Any]:
    said = inside("fit", *words, "--format", "json", folder=folder)
    assert said.err == ""
    found: dict[str, Any] = json.loads(said.out)
    assert said.code == (found["fits"] is False)
    assert set(found) == KEYS
    adds_up(found)
    return found


def adds_up(found: dict[str, Any]) -> None:
    """Every number that is a sum is the sum of its terms, and agrees with the others."""
    parts = found["parts"]
    for name in TERMS:
        assert sum(part["bytes"] for part in parts if part["name"].startswith(name)) == found[f"{name}_bytes"]
    assert sum(part["bytes"] for part in parts) == found["total_bytes"]
    assert all(part["how"] for part in parts)
    for one in found["degrees"]:
        assert sum(one[f"{name}_bytes"] for name in TERMS) == one["total_bytes"]
        if found["usable_bytes"] is not None:
            assert one["fits"] == (one["total_bytes"] <= found["usable_bytes"])
        if one["tp"] == found["tp"]:
            assert one["total_bytes"] == found["total_bytes"]
    fitting = [one["tp"] for one in found["degrees"] if one["fits"]]
    assert found["smallest_tp"] == (min(fitting) if fitting else None)
    for name in ("ttft", "itl"):
        floor = found["floors"][name]
        assert (floor is None) == (found[f"{name}_floor_ms"] is None)
        assert floor is None or floor["seconds"] * 1000 == pytest.approx(found[f"{name}_floor_ms"])


def test_the_question_of_the_manual_is_answered_in_bytes(tmp_path: Path) -> None:
    words = ("llama-3.1-70b", "--gpu", "h100", "--recipe", "fp8", "--context", "2048", "--batch", "128")
    found = asked(tmp_path, *words)
    assert (found["fits"], found["smallest_tp"]) == (False, 4)
    assert found["kv_bytes"] == 128 * 2048 * 327_680
    assert 70e9 < found["weights_bytes"] < 73e9
    assert found["engine"]["verdict"] == "native"
    assert [one["tp"] for one in found["degrees"]] == [1, 2, 4, 8]
    assert asked(tmp_path, *words, "--tp", "4")["fits"] is True


def test_context_is_all_tokens_of_a_sequence_prompt_and_output_together(tmp_path: Path) -> None:
    found = asked(tmp_path, "llama-3.1-8b", "--gpu", "h100", "--context", "131072")
    assert found["kv_bytes"] == 131_072 * 131_072
    assert found["fits"] is True  # all that the model has: one token more does not fit it
    longer = asked(tmp_path, "llama-3.1-8b", "--gpu", "h100", "--context", "131073")
    assert (longer["fits"], longer["engine"]["rule"]) == (False, "context")


def test_the_most_that_fits_fits_and_one_more_does_not(tmp_path: Path) -> None:
    words = ("llama-3.1-8b", "--gpu", "l4", "--recipe", "fp8")
    found = asked(tmp_path, *words, "--context", "4096")
    most = found["largest_batch"]
    assert asked(tmp_path, *words, "--context", "4096", "--batch", str(most))["fits"] is True
    assert asked(tmp_path, *words, "--context", "4096", "--batch", str(most + 1))["fits"] is False
    longest = asked(tmp_path, *words, "--batch", "4")["largest_context_tok"]
    assert asked(tmp_path, *words, "--batch", "4", "--context", str(longest))["fits"] is True
    assert asked(tmp_path, *words, "--batch", "4", "--context", str(longest + 1))["fits"] is False


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("llama-3.1-8b", "--gpu", "h100", "--tp", "3"), "heads"),
        (("llama-3.1-8b", "--gpu", "h100", "--tp", "16"), "node-gpus"),
        (("llama-3-70b", "--gpu", "h200", "--recipe", "fp8", "--context", "9000"), "context"),
    ],
)
def test_what_memory_alone_would_allow_does_not_fit_where_degrees_or_context_forbid_it(
    words: tuple[str, ...], rule: str, tmp_path: Path
) -> None:
    found = asked(tmp_path, *words)
    assert found["total_bytes"] < found["usable_bytes"]
    assert (found["fits"], found["engine"]["rule"], found["engine"]["verdict"]) == (False, rule, "does_not_fit")
    said = inside("fit", *words, folder=tmp_path)
    assert said.code == 1
    assert "It does not fit: " in said.out
    assert "It fits." not in said.out


def test_pipeline_stages_count_in_every_degree(tmp_path: Path) -> None:
    found = asked(tmp_path, "llama-3.1-70b", "--gpu", "h100", "--pp", "2")
    assert (found["tp"], found["pp"], found["fits"], found["smallest_tp"]) == (1, 2, True, 1)
    assert asked(tmp_path, "llama-3.1-70b", "--gpu", "h100")["smallest_tp"] == 2


def test_a_cache_format_is_the_recipes_unless_another_is_asked(tmp_path: Path) -> None:
    words = ("llama-3.1-8b", "--gpu", "h100", "--batch", "64")
    wide, narrow = asked(tmp_path, *words), asked(tmp_path, *words, "--kv", "fp8")
    assert wide["kv_bytes"] == 2 * narrow["kv_bytes"]
    assert narrow["recipe"]["kv"][:2] == ["fp8", "fp8"]
    assert narrow["weights_bytes"] == wide["weights_bytes"]


def test_what_nobody_knows_is_null_and_no_failure(tmp_path: Path) -> None:
    found = asked(tmp_path, "llama-3.1-8b", "--gpu", "local", "--recipe", "q4_k_m", "--engine", "llamacpp")
    for name in ("memory_bytes", "usable_bytes", "fits", "smallest_tp", "largest_batch", "largest_context_tok"):
        assert found[name] is None
    assert (found["ttft_floor_ms"], found["itl_floor_ms"]) == (None, None)
    said = inside(
        "fit", "llama-3.1-8b", "--gpu", "local", "--recipe", "q4_k_m", "--engine", "llamacpp", folder=tmp_path
    )
    assert said.code == 0
    assert "Whether it fits nobody can say" in said.out


def test_what_an_engine_makes_of_it_is_said_beside_the_sum(tmp_path: Path) -> None:
    found = asked(tmp_path, "llama-3.1-8b", "--gpu", "h100", "--recipe", "nvfp4", "--engine", "tensorrt-llm")
    engine = found["engine"]
    assert (engine["name"], engine["verdict"], engine["rule"]) == ("tensorrt-llm", "hardware_cannot", "weights")
    assert engine["sentence"]
    assert engine["source"]
    assert found["fits"] is True


@pytest.mark.parametrize("gpu", lookup.gpu_names())
def test_every_kind_of_the_catalog_adds_up(gpu: str, tmp_path: Path) -> None:
    asked(tmp_path, "mixtral-8x7b", "--gpu", gpu, "--recipe", "int4", "--batch", "8", "--pp", "2")


@pytest.mark.parametrize(
    "model", ["deepseek-v3", "gpt-oss-20b", "gemma-2-9b", "qwen3-next-80b-a3b", "tiny", "ladder-75m"]
)
def test_every_sort_of_model_adds_up(model: str, tmp_path: Path) -> None:
    asked(tmp_path, model, "--gpu", "mi300x", "--context", "512", "--batch", "3", "--tp", "2")


def test_a_model_is_a_folder_its_config_json_or_a_hub_id_with_a_revision(tmp_path: Path) -> None:
    write(tmp_path / "mine", {"config.json": QWEN})
    cached(tmp_path / "hub", "org/qwen", {"config.json": QWEN, "model.safetensors": WEIGHTS}, refs=("main", "v2"))
    numbers = {}
    for word in ("./mine", "mine", "mine/config.json", "./mine/config.json", str(tmp_path / "mine"), "org/qwen@v2"):
        found = asked(tmp_path, word, "--gpu", "h100", "--context", "64")
        numbers[word] = (found["params"], found["total_bytes"])
        assert found["model"] == ("qwen" if "@" in word else "mine")
    assert len(set(numbers.values())) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("llama-3.1-8b", "--gpu", "h1000"), "GPU 'h1000' is not known (did you mean h100"),
        (("llama-3.1-8b", "--gpu", "h100", "--recipe", "fp88"), 'recipe "fp88" is not known (did you mean fp8'),
        (("llama-3.1-8b", "--gpu", "h100", "--engine", "vlm"), "engine 'vlm' is not known (did you mean vllm"),
        (("llama-3.1-8b", "--gpu", "h100", "--kv", "fp9"), "KV format 'fp9' is not known (did you mean fp8"),
        (("llama-3.1-8bb", "--gpu", "h100"), "model 'llama-3.1-8bb' is not known (did you mean llama-3.1-8b"),
        (("zzzzzzzz", "--gpu", "h100"), "model zzzzzzzz: no such model is known (give its path, or its hub id)"),
        (("nobody/thing", "--gpu", "h100"), "model nobody/thing: neither this machine nor the catalog"),
        (("x" * 400, "--gpu", "h100"), "no such model is known"),
        (("./" + "x" * 400, "--gpu", "h100"), "no such folder"),
        (("~nobody-of-this-name/model", "--gpu", "h100"), "no such folder"),
        (("./empty", "--gpu", "h100"), "empty/config.json: No such file"),
        (("broken", "--gpu", "h100"), "broken/config.json: it is not JSON"),
        (("llama-3.1-8b",), "Missing option '--gpu'"),
        (("llama-3.1-8b", "--gpu", "h100", "--batch", "0"), "0 is not in the range"),
        (("llama-3.1-8b", "--gpu", "h100", "--context", "1e3"), "not a valid integer"),
        (("llama-3.1-8b", "--gpu", "\x1b[31m"), "GPU '?[31m' is not known"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    write(tmp_path / "empty", {})
    write(tmp_path / "broken", {"config.json": b"{"})
    found = inside("fit", *words, folder=tmp_path)
    assert (found.code, found.out) == (2, "")
    assert said in found.err


def test_every_wrong_name_is_said_at_once(tmp_path: Path) -> None:
    words = ("llama-3.1-8bb", "--gpu", "h1000", "--recipe", "fp88", "--engine", "vlm")
    assert len(inside("fit", *words, folder=tmp_path).err.splitlines()) == 4


@pytest.mark.parametrize(
    "words",
    [
        ("llama-3.1-70b", "--gpu", "h100", "--recipe", "fp8", "--batch", "128"),
        ("qwen3-coder-480b-a35b", "--gpu", "rtx-pro-6000", "--recipe", "awq-protected", "--context", "131072",
         "--batch", "128", "--tp", "8", "--pp", "2"),
        ("deepseek-v3", "--gpu", "b200", "--recipe", "nvfp4-kv8", "--tp", "8", "--engine", "tensorrt-llm"),
        ("llama-3.1-8b", "--gpu", "a100-80g", "--recipe", "fp8"),
        ("llama-3.1-8b", "--gpu", "local", "--recipe", "q4_k_m", "--engine", "llamacpp"),
        ("llama-3.1-8b", "--gpu", "h100", "--recipe", "kivi"),
    ],
)  # fmt: skip
def test_no_line_of_the_answer_is_wider_than_a_page(words: tuple[str, ...], tmp_path: Path) -> None:
    said = inside("fit", *words, folder=tmp_path)
    assert said.code in {0, 1}
    wide = [line for line in said.out.splitlines() if len(line) > 80]
    assert wide == []


def test_degrees_come_as_rows_too(tmp_path: Path) -> None:
    said = inside("fit", "llama-3.1-8b", "--gpu", "h100", "--format", "csv", folder=tmp_path)
    rows = list(csv.DictReader(said.out.splitlines()))
    assert [row["tp"] for row in rows] == ["1", "2", "4", "8"]
    for row in rows:
        assert sum(float(row[name]) for name in TERMS) == pytest.approx(float(row["total"]), abs=0.02)


def test_an_overlay_of_the_users_own_changes_the_answer(tmp_path: Path) -> None:
    own = write(tmp_path / "own" / "gpus", {"h100.yaml": {"memory_bytes": figure(40e9), "bandwidth_bytes_s": None}})
    words = ("fit", "llama-3.1-70b", "--gpu", "h100", "--recipe", "int4", "--format", "json")
    said = fleetbench(*words, folder=tmp_path, FLEETBENCH_CATALOG=str(own.parent))
    found = json.loads(said.out)
    assert (said.code, found["fits"], found["memory_bytes"]) == (1, False, 40_000_000_000)
    assert found["itl_floor_ms"] is None
    adds_up(found)


def figure(value: float) -> dict[str, Any]:
    return {"value": value, "source": "this test", "date": "2026-11-24"}
