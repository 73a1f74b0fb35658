"""The page that `fleetbench report` writes: its rows, its words, its specifications and its HTML."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import duckdb
import numpy as np
import pytest
import vl_convert

from fleetbench.errors import InputError
from fleetbench.report.filters import Filters
from fleetbench.report.page.cells import LEVELS, MOST_CELLS, thin
from fleetbench.report.page.data import columnar, plain
from fleetbench.report.page.figures import figures, scales_of
from fleetbench.report.page.gather import Gathered, gather
from fleetbench.report.page.html import COLUMNS, Made, html
from fleetbench.report.page.pictures import alone, pictures
from fleetbench.report.page.spec import LAYOUT, VEGA_LITE, Figure, Spec, laid_out
from fleetbench.report.page.words import words
from fleetbench.report.result import Row
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from fleetbench_collectors import sketch
from tests.report import fleet
from tests.samples import Lab, item_row, trial_row

MADE = Made(version="0.1.0", at=dt.datetime(2026, 12, 1, tzinfo=dt.UTC), warehouse="some/warehouse")
MOST_BYTES = 3_000_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A warehouse with the fleet's run and, each under its own run_id, what else the tests are about."""
    warehouse = Warehouse(tmp_path_factory.mktemp("fleet"))
    warehouse.create()
    fleet.commit(warehouse)
    lab = Lab(warehouse)
    for commit in (few_samples, random_weights, drifting, foreign, failures_alone, one_cell, nasty):
        commit(lab)
    with connect(warehouse.root) as connection:
        yield connection


def few_samples(lab: Lab) -> None:
    lab.run(run_id="few", run="few")
    few = sketch.build(np.array([10.0, 20.0, 30.0, 40.0])).row()
    lab.trial(trial_row(run_id="few", output_tok_s=10.0, ttft_sketch=few))


def random_weights(lab: Lab) -> None:
    lab.run(run_id="random", run="random")
    quality: dict[str, Any] = {"run_id": "random", "kind": "quality", "suite": fleet.SUITE}
    quality |= dict.fromkeys(("batch", "context_tok", "output_tok"))
    lab.trial(trial_row(**quality, cell_id="random"), quality_items=[item_row(0, correct=True)])
    trained = {"cell_id": "trained", "model": "tiny", "random_weights": False}
    lab.trial(trial_row(**{**quality, **trained}), quality_items=[item_row(0, correct=True)])
    lab.speed("f16", 10.0, run_id="random")


def drifting(lab: Lab) -> None:
    lab.run(run_id="drift", run="drift")
    lab.speed("f16", 100.0, run_id="drift")
    lab.speed("f16", 60.0, run_id="drift", role="control")


FOREIGN = {"origin": "llama-bench", "source": "rows.jsonl", "source_sha256": "a" * 64, "licence": "MIT"}


def foreign(lab: Lab) -> None:
    lab.run(run_id="foreign", run="foreign", **FOREIGN, unmapped=["Q9_X"])
    unknown = dict.fromkeys(("kv_k", "kv_v", "method", "artifact_id", "engine_version", "node", "gpus", "tp"))
    lab.trial(trial_row(run_id="foreign", output_tok_s=10.0, cell_id="foreign") | unknown)


def failures_alone(lab: Lab) -> None:
    lab.run(run_id="failed", run="failed", cells=1, trials=1)
    row = trial_row(run_id="failed", outcome="oom", valid=False, reason="out of memory", log_tail="line\n" * 1_000)
    lab.trial(row)


def one_cell(lab: Lab) -> None:
    lab.run(run_id="one", run="one")
    lab.speed("f16", 10.0, run_id="one")


def nasty(lab: Lab) -> None:
    fleet.commit(
        lab.warehouse,
        fleet.Fleet(hardware=("h100",), recipes=("bf16", fleet.NASTY), batches=(1, 8), contexts=(512,)),
        run_id="nasty",
        analysis=f"why? {fleet.NASTY}",
        run="<b>run</b>",
        matrix="</title><script>alert(2)</script>",
    )


@pytest.fixture(scope="module")
def whole(store: duckdb.DuckDBPyConnection) -> Gathered:
    return gather(store, ["fleet-run"])


@pytest.fixture(scope="module")
def drawings(whole: Gathered) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(scales_of(whole.datasets["cells"], whole.recipes))}


class Elements(HTMLParser):
    """Start tags with their attributes, what scripts hold, and what is text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, _: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data


def texts(spec: Spec) -> list[str]:
    """What the specification writes among its marks, axes and legends apart; the lines of one text joined."""
    svg = ET.fromstring(vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE))  # noqa: S314 - our own
    name = "{http://www.w3.org/2000/svg}"
    groups = [group for group in svg.iter(f"{name}g") if "mark-text role-mark" in group.get("class", "")]
    return [" ".join(item.itertext()) for group in groups for item in group.iter(f"{name}text")]


def spec_of(figure: Figure, gathered: Gathered) -> Spec:
    spec = alone(figure, gathered)
    assert spec is not None
    return spec


def test_every_figure_with_rows_compiles_and_is_drawn(whole: Gathered, drawings: Mapping[str, Figure]) -> None:
    names = []
    for name, picture in pictures(whole):
        names.append(name.removesuffix(".png"))
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 10_000
    assert names == list(drawings)


def test_specifications_are_json_and_read_only_what_the_page_has(drawings: Mapping[str, Figure]) -> None:
    for figure in drawings.values():
        spec = json.loads(json.dumps(figure.spec, allow_nan=False))
        text = json.dumps(spec)
        made = set(re.findall(r'"as": "(\w+)"', text)) | {"panel_rank"}
        read = set(re.findall(r'"field": "(\w+)"', text)) | set(re.findall(r"datum\.(\w+)", text))
        assert read - made - {"value", "label"} <= {*COLUMNS[figure.dataset]}, figure.name
        assert {*figure.needs, figure.panels} <= {*COLUMNS[figure.dataset]}, figure.name


def test_axes_have_titles_with_units(drawings: Mapping[str, Figure]) -> None:
    units = {"pareto": "per user", "ttft": "ms", "itl": "ms", "energy": "J per", "cost": "USD per", "accuracy": "%"}
    for name, unit in units.items():
        assert unit in json.dumps(drawings[name].spec, ensure_ascii=False), name


def test_the_front_joins_what_nothing_beats_on_the_same_hardware(
    whole: Gathered, drawings: Mapping[str, Figure]
) -> None:
    cells = [row for row in whole.datasets["cells"] if row["per_gpu"] is not None]
    fronts = 0
    for row in cells:
        rivals = [
            other for other in cells if (other["subject"], other["hardware"]) == (row["subject"], row["hardware"])
        ]
        fronts += not any(
            _number(other["per_gpu"]) >= _number(row["per_gpu"])
            and _number(other["user_tok_s"]) > _number(row["user_tok_s"])
            for other in rivals
        )
    labels = [text for text in texts(spec_of(drawings["pareto"], whole)) if text.isdecimal()]
    assert len(labels) == fronts > 0


def test_the_front_of_all_hardware_is_within_those_of_each(store: duckdb.DuckDBPyConnection, whole: Gathered) -> None:
    front = store.execute("SELECT cell_id FROM pareto WHERE on_front_of_run AND run_id = 'fleet-run'").fetchall()
    points = {row["cell_id"]: row for row in whole.datasets["cells"] if row["per_gpu"] is not None}
    assert front
    for (cell_id,) in front:
        point = points[cell_id]
        assert not any(
            _number(other["per_gpu"]) > _number(point["per_gpu"])
            and _number(other["user_tok_s"]) > _number(point["user_tok_s"])
            for other in points.values()
            if other["subject"] == point["subject"]
        )


def test_the_best_within_the_slo_is_said_and_keeps_to_it(whole: Gathered) -> None:
    said = [sentence for sentence in words(whole).found if sentence.startswith("Within ttft_p99 500, itl_p99 20 ms")]
    assert len(said) == len(fleet.HARDWARE) * len(fleet.CONTEXTS)
    assert "b200, llama-3.1-8b, 512 tokens in, 128 out: nvfp4 at batch 128" in " ".join(said)
    for row in whole.datasets["within_slo"]:
        if row["tok_s_per_gpu"] is not None:
            assert _number(row["ttft_p99_ms"]) <= 500
            assert _number(row["itl_p99_ms"]) <= 20


def test_costs_come_with_the_price_its_day_and_whose_word_it_is(whole: Gathered) -> None:
    prices = {row["hardware"]: row for row in whole.datasets["prices"]}
    cell = next(row for row in whole.datasets["cells"] if row["hardware"] == "h100" and row["cost"] is not None)
    assert cell["cost"] == pytest.approx(
        _number(prices["h100"]["usd_per_hour"]) / 3.6e-3 / _number(cell["output_tok_s"])
    )
    assert prices["h100"]["price_source"]
    assert prices["h100"]["price_date"]


def test_the_fastest_recipe_at_a_load_is_the_one_with_the_highest_rate(
    whole: Gathered, drawings: Mapping[str, Figure]
) -> None:
    cells = [row for row in whole.datasets["cells"] if row["per_gpu"] is not None]
    loads = {(row["panel"], row["batch"], row["context_tok"]) for row in cells}
    winners = [
        max(
            (row for row in cells if (row["panel"], row["batch"], row["context_tok"]) == load),
            key=lambda row: _number(row["per_gpu"]),
        )
        for load in loads
    ]
    shown = [text.split()[0] for text in texts(spec_of(drawings["best"], whole))]
    assert sorted(shown) == sorted(str(row["recipe"]) for row in winners)


def test_distributions_are_those_of_the_samples(store: duckdb.DuckDBPyConnection, whole: Gathered) -> None:
    name = {"b200", "nvfp4"}
    row = next(
        row
        for row in whole.datasets["cells"]
        if {row["hardware"], row["recipe"]} == name and (row["batch"], row["context_tok"]) == (8, 512)
    )
    assert row["ttft_samples"] == 400
    assert row["itl_samples"] == 800
    means = store.execute(
        "SELECT avg(ttft_mean_ms) FROM trials WHERE run_id = ? AND cell_id = ?", [row["run_id"], row["cell_id"]]
    ).fetchall()
    quantiles = [_number(row[f"ttft_{level}"]) for level in LEVELS]
    assert quantiles == sorted(quantiles)
    assert quantiles[2] == pytest.approx(means[0][0] * np.exp(-(0.18**2) / 2), rel=0.05)


def test_a_quantile_of_too_few_samples_is_missing(store: duckdb.DuckDBPyConnection) -> None:
    (row,) = gather(store, ["few"]).datasets["cells"]
    assert row["ttft_p50"] == pytest.approx(20, rel=0.011)
    assert row["ttft_p25"] is not None
    assert (row["ttft_p05"], row["ttft_p95"], row["ttft_p99"]) == (None, None, None)
    assert row["itl_p50"] is None


def test_cells_without_numbers_are_named_by_their_outcome_where_numbers_would_be(
    whole: Gathered, drawings: Mapping[str, Figure]
) -> None:
    shown = texts(spec_of(drawings["heat"], whole))
    assert [shown.count(outcome) for outcome in ("oom", "invalid", "refused")] == [1, 2, 16]
    assert len(shown) == len(whole.datasets["cells"])


def test_recipes_stand_in_the_order_of_the_matrix_and_batches_as_numbers(
    whole: Gathered, drawings: Mapping[str, Figure]
) -> None:
    assert list(whole.recipes) == list(fleet.RECIPES)
    colour = drawings["speed"].spec["spec"]["layer"][1]["encoding"]["color"]
    assert colour["scale"]["domain"] == [1, 8, 32, 128]


def test_panels_share_the_page_as_they_are_many(drawings: Mapping[str, Figure]) -> None:
    figure = drawings["speed"]
    one, many, narrow = laid_out(figure, 1), laid_out(figure, 7), laid_out(figure, 7, width=400)
    assert (one["columns"], many["columns"], narrow["columns"]) == (1, 3, 1)
    assert one["spec"]["width"] == LAYOUT.most_panel
    assert many["spec"]["width"] * 3 < LAYOUT.paper
    assert narrow["spec"]["width"] < 400


def test_quality_of_random_weights_is_nowhere(store: duckdb.DuckDBPyConnection) -> None:
    found = gather(store, ["random"])
    assert {row["model"] for row in found.datasets["accuracy"]} == {"tiny"}
    assert {row["quality_model"] for row in found.datasets["trade"]} == {"tiny"}
    assert {row["model"] for row in found.datasets["cells"]} == {"ladder-75m (random weights)"}
    assert any("ladder-75m (random weights)" in sentence for sentence in words(found).caveats)


def test_the_summary_names_what_was_compared_the_fastest_and_what_is_missing(whole: Gathered) -> None:
    said = words(whole)
    assert any("5 recipes (bf16, fp8, int8, awq, nvfp4)" in sentence for sentence in said.compared)
    fastest = next(sentence for sentence in said.found if sentence.startswith("b200"))
    assert "nvfp4 is the fastest" in fastest
    assert "bf16 100.0 %" in fastest
    lacking = next(sentence for sentence in said.caveats if "without good numbers" in sentence)
    assert "1 failed, 2 invalid, 16 refused." in lacking
    assert any("No energy is known of 23 of the 101 measured cells" in sentence for sentence in said.caveats)


def test_drift_is_said_before_all_other_caveats(store: duckdb.DuckDBPyConnection) -> None:
    assert "changed by 40 %" in words(gather(store, ["drift"])).alarms[0]


def test_filters_narrow_every_table_and_are_said(store: duckdb.DuckDBPyConnection) -> None:
    found = gather(store, ["fleet-run"], Filters(hardware=("a100-80g",), recipe=("bf16", "fp8")))
    assert {row["hardware"] for row in found.datasets["cells"]} == {"a100-80g"}
    assert {row["recipe"] for row in found.datasets["coverage"]} == {"bf16", "fp8"}
    assert [row["outcome"] for row in found.datasets["failures"]] == ["oom"]
    assert {row["recipe"] for row in found.datasets["refusals"]} == {"fp8"}
    assert {row["node"] for row in found.datasets["nodes"]} == {"a100-80g-0"}
    assert any("--hardware a100-80g" in sentence for sentence in words(found).compared)


def test_a_filter_that_holds_for_nothing_is_refused(store: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(InputError, match="tpu"):
        gather(store, ["fleet-run"], Filters(hardware=("tpu",)))


def test_a_foreign_run_names_its_file_and_licence(store: duckdb.DuckDBPyConnection) -> None:
    found = gather(store, ["foreign"])
    (run,) = found.datasets["runs"]
    assert {name: run[name] for name in FOREIGN} == FOREIGN
    assert any("Imported from other tools (llama-bench)" in sentence for sentence in words(found).caveats)
    assert "Q9_X" in html(found, MADE)
    (cell,) = found.datasets["cells"]
    assert (cell["output_tok_s"], cell["per_gpu"]) == (10.0, None)


def test_files_that_cannot_be_read_are_counted_on_the_page(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    warehouse.create()
    fleet.commit(warehouse, fleet.Fleet(hardware=("h100",), batches=(1,), contexts=(512,)))
    next((tmp_path / "landing" / "launches").rglob("*.parquet")).write_bytes(b"PAR1")
    with connect(tmp_path) as connection:
        found = gather(connection, ["fleet-run"])
    assert any("Quarantined: 1 files" in sentence for sentence in words(found).caveats)
    assert "quarantined files: 1." in Elements(html(found, MADE)).text


def test_a_run_with_failures_alone_has_a_page_that_says_so(store: duckdb.DuckDBPyConnection) -> None:
    found = gather(store, ["failed"])
    assert any("1 failed" in sentence for sentence in words(found).caveats)
    (failure,) = found.datasets["failures"]
    assert failure["reason"] == "out of memory"
    assert len(str(failure["log"])) < 2_000
    assert [name for name, _ in pictures(found)] == ["heat.png", "coverage.png"]
    assert "out of memory" in html(found, MADE)


def test_one_cell_is_a_report(store: duckdb.DuckDBPyConnection) -> None:
    found = gather(store, ["one"])
    assert "heat.png" in [name for name, _ in pictures(found)]
    assert any("one trial alone" in sentence for sentence in words(found).caveats)


def test_names_of_any_kind_are_text_on_the_page(store: duckdb.DuckDBPyConnection) -> None:
    found = gather(store, ["nasty"])
    page = Elements(html(found, MADE))
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert not {"img", "b", "iframe", "object", "link"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert fleet.NASTY in page.text
    assert json.loads(page.scripts[0])["recipes"] == ["bf16", fleet.NASTY]
    assert all(picture.startswith(b"\x89PNG") for _, picture in pictures(found))


def test_the_page_fetches_nothing_and_lets_nothing_but_its_own_scripts_run(whole: Gathered) -> None:
    page = Elements(html(whole, MADE))
    assert not [attributes for _, attributes in page.tags if "src" in attributes]
    assert all(str(attributes["href"]).startswith("#") for tag, attributes in page.tags if "href" in attributes)
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for script in page.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "unsafe-eval" not in policy


def test_missing_numbers_are_null_and_never_0(whole: Gathered) -> None:
    payload = json.loads(Elements(html(whole, MADE)).scripts[0])
    packed = payload["datasets"]["cells"]["columns"]
    outcomes = [packed["outcome"]["texts"][at] for at in packed["outcome"]["at"]]
    rates = packed["output_tok_s"]
    assert {rate for rate, outcome in zip(rates, outcomes, strict=True) if outcome != "ok"} == {None}
    assert 0 not in rates


def test_numbers_keep_four_digits_and_text_stands_once() -> None:
    rows: list[Row] = [{"a": 1234.567, "b": "x"}, {"a": 0.000123456, "b": None}, {"a": float("nan"), "b": "x"}]
    assert columnar(rows, ["a", "b"]) == {
        "rows": 3,
        "columns": {"a": [1235, 0.0001235, None], "b": {"texts": ["x", None], "at": [0, 1, 0]}},
    }
    assert plain(True) is True
    assert plain(dt.datetime(2026, 1, 2, 3, 4, 5, 678, dt.UTC).replace(tzinfo=None)) == "2026-01-02 03:04:05"


def test_twenty_thousand_cells_fit_into_a_page(whole: Gathered) -> None:
    cells = [row for row in whole.datasets["cells"] if row["ratio"] is not None]
    rows = [{**row, "recipe": f"{row['recipe']}-{n // len(cells)}"} for n, row in enumerate(cells * 250)][:20_000]
    kept = thin(rows)
    assert len(kept.rows) == MOST_CELLS
    many = replace(whole, datasets={**whole.datasets, "cells": kept.rows}, left_out=(str(kept.said),))
    text = html(many, MADE)
    assert len(text.encode()) < MOST_BYTES
    assert "Of 20,000 speed cells the figures and tables have 3,000" in text


def test_what_a_page_leaves_out_is_said(store: duckdb.DuckDBPyConnection) -> None:
    found = gather(store, ["fleet-run"], most_cells=70)
    cells = found.datasets["cells"]
    assert len(cells) <= 70
    assert {row["hardware"] for row in cells} == {*fleet.HARDWARE}
    assert {row["recipe"] for row in cells} == {*fleet.RECIPES}
    assert {row["batch"] for row in cells} == {1, 128}
    assert "Of 120 speed cells" in "".join(words(found).caveats)


def test_thinning_keeps_grids_and_at_last_the_first() -> None:
    rows: list[Row] = [
        {"batch": batch, "context_tok": context, "n": n}
        for n, (batch, context) in enumerate(itertools.product((1, 2, 4, 8), (64, 128, 256)))
    ]
    assert thin(rows, 12).said is None
    kept = thin(rows, 9).rows
    assert {row["batch"] for row in kept} == {1, 4, 8}
    assert len(kept) == 9
    assert len(thin(rows, 3).rows) == 3
    assert "the first" in str(thin(rows, 3).said)


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)
