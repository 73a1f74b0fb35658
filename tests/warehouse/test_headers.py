"""What every SQL file says of itself, and which columns all marts share."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from fleetbench import resources
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from fleetbench.store.verdicts import judge_run, keep
from tests.samples import Row, artifact_row, item_row, keyed, launch_row, position_row, refusal_row, run_row, trial_row
from tests.warehouse.work import built, cell

ROOT = resources.root("warehouse")
MARTS = sorted(path.stem for path in (ROOT / "marts").glob("*.sql"))
OF_A_RUN = {"coverage"}
"""A row a run: it has no one hardware or recipe."""
PUBLIC = {
    "trials": "trial_id cell_id run_id attempt outcome reason started_at",
    "cells": """cell_id model recipe weights activations kv method engine engine_version hardware gpus tp batch
        context_tok output_tok trials output_tok_s total_tok_s requests_per_s energy_j_per_tok power_mean_w valid
        quality_verdict outcome """
    + " ".join(f"{of}_{stat}_ms" for of in ("ttft", "itl", "tpot", "e2e") for stat in ("mean", "p50", "p90", "p99")),
}
COUNT = re.compile(r"^(n|n_.*|.*_n|trials|positions|cells_.*)$")
LEFT_OUT = re.compile(
    r"^(left_out|n_left_out|no_.*|trials_not_ok|unanswered|skipped|superseded_n|cells_.*|same_node|reason)$"
)
SPREAD = re.compile(r".*(spread_ratio|_low_ratio|_sd|_se_nat|^low$|_low)$")


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(tmp_path_factory.mktemp("empty")) as made:
        yield made


def columns(connection: duckdb.DuckDBPyConnection, view: str) -> set[str]:
    return set(connection.sql(f'FROM "{view}"').columns)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.sql")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_says_what_a_row_is_its_key_and_its_units(path: Path) -> None:
    head = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("--"))
    if path.parent.name == "checks":
        assert head.startswith("-- Must be empty: ")
        return
    for word in ("Row:", "Key:", "Units:"):
        assert word in head, word


@pytest.mark.parametrize("mart", MARTS)
def test_every_mart_can_be_filtered_by_run_time_hardware_and_recipe(
    connection: duckdb.DuckDBPyConnection, mart: str
) -> None:
    wanted = {"run_id", "submitted_at", "origin"} | (set() if mart in OF_A_RUN else {"hardware", "recipe"})
    assert wanted <= columns(connection, mart)


@pytest.mark.parametrize("mart", sorted(set(MARTS) - {"failures", "coverage"}))
def test_every_mart_has_how_many_it_is_of_their_spread_and_what_was_left_out(
    connection: duckdb.DuckDBPyConnection, mart: str
) -> None:
    found = columns(connection, mart)
    assert any(COUNT.match(name) for name in found), "n"
    assert any(LEFT_OUT.match(name) for name in found), "left out"
    assert mart == "drift" or any(SPREAD.match(name) for name in found), "spread"


@pytest.mark.parametrize("view", PUBLIC)
def test_the_columns_that_others_rely_on_are_there(connection: duckdb.DuckDBPyConnection, view: str) -> None:
    assert set(PUBLIC[view].split()) <= columns(connection, view)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A warehouse in which every mart has rows, and more than one where a key could fail."""
    trials: list[Row] = []
    items: list[Row] = []
    positions: list[Row] = []
    places = list(
        itertools.product(("night1", "night2"), ("h100", "b200"), ("vllm", "sglang"), ("bf16", "fp8", "int4"))
    )
    for run_id, hardware, engine, recipe in places:
        place = {"run_id": run_id, "hardware": hardware, "engine": engine}
        axes = {**place, "reference": recipe == "bf16", "weights": recipe, "user_tok_s_p50": 9.0, "ttft_p99_ms": 5.0}
        for batch, context, tp in ((1, 64, 1), (8, 64, 1), (8, 256, 1), (8, 64, 2)):
            trials += cell(recipe, 100.0 + batch, 110.0, batch=batch, context_tok=context, tp=tp, gpus=tp, **axes)
        trials += cell(recipe, 1.0, batch=64, outcome="oom", valid=False, **axes)
        if recipe == "bf16":
            first = cell(recipe, 90.0, batch=1, context_tok=64, tp=1, gpus=1, **axes)
            trials += [{**row, "role": "control", "trial_id": f"{row['trial_id']}-c"} for row in first]
        answered = trial_row(recipe, kind="quality", suite="embedded/1", random_weights=False, batch=None)
        answered |= {
            **place,
            "reference": recipe == "bf16",
            "cell_id": f"q-{hardware}-{engine}-{recipe}",
            "trial_id": f"q-{hardware}-{engine}-{recipe}",
        }
        trials.append(answered)
        items += keyed(answered, [item_row(n, correct=True, category=name) for n, name in enumerate(("facts", "json"))])
        positions += keyed(answered, [position_row(0, [-0.7, -0.7])])
    slo = json.dumps({"slo": {"ttft_p99_ms": 10.0, "itl_p99_ms": None}})
    others: dict[str, list[Row]] = {
        "quality_items": items,
        "quality_positions": positions,
        "refusals": [refusal_row(recipe, run_id="night1") for recipe in ("fp8", "int4")],
        "launches": [launch_row("fp8", attempt, run_id="night1") for attempt in range(2)],
        "artifacts": [artifact_row("fp8", node, run_id="night1") for node in ("here", "there")],
    }
    runs = [run_row(run_id=name, matrix_json=slo, reference="bf16") for name in ("night1", "night2")]
    root = built(tmp_path_factory.mktemp("whole"), runs, trials, **others)
    with connect(root) as made:
        for run in runs:
            keep(Warehouse(root), made, run["run_id"], judge_run(made, run["run_id"]))
    with connect(root) as made:
        yield made


@pytest.mark.parametrize("mart", MARTS)
def test_a_row_of_a_mart_is_found_by_the_key_that_its_header_names(whole: duckdb.DuckDBPyConnection, mart: str) -> None:
    head = (ROOT / "marts" / f"{mart}.sql").read_text(encoding="utf-8").replace("\n-- ", " ")
    said = re.search(r"Key: ([a-z_, ]+)[;.]", head)
    assert said is not None
    rows, keys = whole.sql(f'SELECT count(*), count(DISTINCT ({said[1]})) FROM "{mart}"').fetchall()[0]  # noqa: S608 - ours
    assert rows == keys > 0
