"""`fleetbench prepare`: each checkpoint made once, what it cost kept, and a failure that stops no other."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetbench.store.connection import connect
from tests.artifact.folders import COMMIT, QWEN, write
from tests.artifact.hub_server import GATED, serving
from tests.cli.inside import inside
from tests.cli.shell import Said, fleetbench
from tests.small import write_matrix

SPEED = "[{name: tiny, measure: speed}]"
KEYS = {
    "artifact_id", "model", "revision", "recipe", "engine", "checkpoint", "state", "path", "bytes", "build_s",
    "peak_rss_bytes", "tool", "why", "commands",
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Said]:
    """The command with a cache and a warehouse of its own; nothing would install a tool."""

    def call(*words: str, command: str = "prepare", **matrix: str) -> Said:
        path = write_matrix(tmp_path, **{"models": SPEED, "quality": None, **matrix})
        return inside(
            command, str(path), *words, folder=tmp_path, FLEETBENCH_CACHE=str(tmp_path / "cache"),
            FLEETBENCH_LLMCOMPRESSOR="/nowhere/bin/python",
        )  # fmt: skip

    return call


def records(said: Said) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(said.out)
    assert all(set(one) == KEYS for one in found)
    return found


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with connect(folder / "warehouse") as connection:
        return connection.execute(sql).fetchall()


def test_each_checkpoint_is_made_once_kept_by_its_content_and_its_cost_is_a_row(
    run: Callable[..., Said], tmp_path: Path
) -> None:
    recipes = "[f16, q2_k, {name: two, weights: q4_k_m, kv: q8_0}, {name: again, weights: q4_k_m}]"
    said = run("--format", "json", recipes=recipes)
    assert said.code == 0, said.err
    made = records(said)
    assert [(one["recipe"], one["state"]) for one in made] == [("f16", "made"), ("q2_k", "made"), ("two", "made")]
    for one in made:
        path = Path(one["path"])
        assert path == tmp_path / "cache" / one["artifact_id"] / "model.gguf"
        assert (path.stat().st_size, one["checkpoint"], one["why"], one["commands"]) == (one["bytes"], "gguf", None, [])
        assert one["build_s"] > 0
        assert "gguf" in one["tool"]
    plan = json.loads(run("--format", "json", command="plan", recipes=recipes).out)
    assert {launch["artifact_id"] for launch in plan["launches"]} == {one["artifact_id"] for one in made}
    kept = rows(tmp_path, "SELECT artifact_id, weights, bytes, build_s, run_id FROM artifacts")
    assert sorted(kept) == sorted(
        (one["artifact_id"], weights, one["bytes"], one["build_s"], plan["run_id"])
        for one, weights in zip(made, ("f16", "q2_k", "q4_k_m"), strict=True)
    )
    again = run("--format", "json", recipes=recipes)
    assert (again.code, {one["state"] for one in records(again)}) == (0, {"here"})
    assert [one["path"] for one in records(again)] == [one["path"] for one in made]
    assert {one["build_s"] for one in records(again)} == {None}
    assert rows(tmp_path, "SELECT count(*) FROM artifacts") == [(3,)]


def test_only_what_is_missing_is_made_again(run: Callable[..., Said], tmp_path: Path) -> None:
    made = records(run("--format", "json", recipes="[f16, q8_0]"))
    shutil.rmtree(Path(made[1]["path"]).parent)
    again = records(run("--format", "json", recipes="[f16, q8_0]"))
    assert [one["state"] for one in again] == ["here", "made"]
    assert rows(tmp_path, "SELECT count(*) FROM artifacts") == [(3,)]


def test_one_that_cannot_be_made_stops_no_other_and_says_why(run: Callable[..., Said]) -> None:
    matrix = {"engines": "[vllm, llamacpp]", "recipes": "[f16, {name: int4, weights: int4}, q8_0]"}
    said = run("--format", "json", **matrix)
    assert said.code == 1
    found = {(one["engine"], one["recipe"]): one for one in records(said)}
    assert found["llamacpp", "q8_0"]["state"] == "made"
    assert found["vllm", "f16"]["state"] == "here"
    failed = found["vllm", "int4"]
    assert (failed["state"], failed["path"], failed["bytes"]) == ("failed", None, None)
    assert "FLEETBENCH_LLMCOMPRESSOR" in failed["why"]
    assert failed["commands"]
    assert all(command["argv"] and command["tool"] for command in failed["commands"])
    table = run(**matrix)
    assert table.code == 1
    assert "failed tiny int4: " in table.out
    assert "Traceback" not in table.err


def test_what_is_made_is_told_as_rows_too(run: Callable[..., Said]) -> None:
    run(recipes="[f16, q8_0]")
    said = run("--format", "csv", recipes="[f16, q8_0]")
    found = list(csv.DictReader(said.out.splitlines()))
    assert [(row["recipe"], row["checkpoint"], row["state"]) for row in found] == [
        ("f16", "gguf", "here"),
        ("q8_0", "gguf", "here"),
    ]


def test_where_every_cell_is_refused_there_is_nothing_to_make(run: Callable[..., Said], tmp_path: Path) -> None:
    said = run("--format", "json", hardware="[h100]")
    assert (said.code, records(said)) == (0, [])
    assert "nothing to prepare" in said.err
    assert [path.name for path in (tmp_path / "cache").iterdir() if not path.name.startswith(".")] == []


def test_a_wrong_matrix_or_model_is_wrong_input_and_nothing_is_made(run: Callable[..., Said], tmp_path: Path) -> None:
    write(tmp_path / "broken", {"config.json": QWEN, "model.safetensors": b"short"})
    for models in ("[{name: mine, path: broken}]", "[tinyy]"):
        said = run(models=models)
        assert (said.code, said.out) == (2, "")
        assert "small.yaml:3: models[0]" in said.err
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_an_unusable_environment(tmp_path: Path) -> None:
    path = write_matrix(tmp_path)
    (tmp_path / "file").write_text("")
    said = inside("prepare", str(path), folder=tmp_path, FLEETBENCH_CACHE=str(tmp_path / "file"))
    assert said.code == 4
    assert "set FLEETBENCH_CACHE" in said.err


def test_a_hub_model_that_nobody_here_knows_is_fetched_pinned_and_made(tmp_path: Path) -> None:
    tiny = Path(__file__).parents[2] / "fleetbench" / "artifact" / "tiny"
    files = {path.name: path.read_bytes() for path in tiny.iterdir() if path.suffix in {".json", ".safetensors"}}
    path = write_matrix(tmp_path, models="[org/small]", recipes="[q8_0]", reference="q8_0", quality=None)
    with serving({"org/small": files}) as hub:
        places = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "FLEETBENCH_CACHE": str(tmp_path / "cache")}
        unknown = inside("plan", str(path), folder=tmp_path)
        assert unknown.code == 2
        assert "fleetbench prepare" in unknown.err
        said = fleetbench("prepare", str(path), "--format", "json", folder=tmp_path, **places)
        assert said.code == 0, said.err
        (made,) = records(said)
        assert (made["state"], made["revision"], made["checkpoint"]) == ("made", COMMIT, "gguf")
        assert sorted(hub.asked) == sorted(f"org/small/{name}" for name in files)
    cached = str(tmp_path / "hf" / "hub")
    again = inside("prepare", str(path), "--format", "json", folder=tmp_path, **places, HF_HUB_CACHE=cached)
    assert (again.code, records(again)[0]["state"]) == (0, "here")
    assert rows(tmp_path, "SELECT artifact_id, model FROM artifacts") == [(made["artifact_id"], "small")]


def test_a_gated_model_fails_alone_and_says_what_to_do(tmp_path: Path) -> None:
    path = write_matrix(
        tmp_path, models="[tiny, llama-3.1-8b]", recipes="[q8_0]", reference="q8_0", quality=None
    )  # fmt: skip
    with serving({GATED: {}}) as hub:
        places = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "FLEETBENCH_CACHE": str(tmp_path / "cache")}
        said = fleetbench("prepare", str(path), "--format", "json", folder=tmp_path, **places)
    assert said.code == 1
    assert [(one["model"], one["state"]) for one in records(said)] == [("tiny", "made"), ("llama-3.1-8b", "failed")]
    assert "accept its terms" in records(said)[1]["why"]
    assert "Traceback" not in said.err
