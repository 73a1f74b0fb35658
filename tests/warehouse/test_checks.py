"""The checks: one warehouse with every fault once, each of which one check finds, and it alone."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect, failed_checks
from fleetbench.store.views import definitions
from tests.samples import Lab, Row, figures, item_row, keyed, refusal_row, request_row, run_row, trial_row

LOAD = [request_row(n, [1000, 2000, 3000]) for n in range(2)]
FAULTS = {
    "trial_without_run": {("stray", "stray")},
    "attempt_twice": {("run1", "twice")},
    "cell_with_two_meanings": {("two-meanings",)},
    "more_tokens_than_asked": {("run1", "other-lengths")},
    "good_without_numbers": {("run1", "no-rate")},
    "zero_for_missing": {("run1", "zero")},
    "quantiles_out_of_order": {("run1", "unordered")},
    "time_runs_backwards": {("run1", "backwards")},
    "refused_and_run": {("run1", "refused")},
    "quality_of_random_weights": {("run1", "random")},
    "own_row_incomplete": {("run1", "lacking")},
    "foreign_without_source": {("no-file",), ("own-file",)},
    "energy_not_of_tokens": {("run1", "energy")},
    "sketch_of_other_count": {("run1", "count")},
    "matrix_not_json": {("no-json",)},
}
UNKNOWN = (
    *("weights", "activations", "kv_k", "kv_v", "scheme", "method", "artifact_id", "model_digest", "engine_version"),
    *("gpus", "tp", "pp", "dp", "seed", "node", "started_at", "launch_id", "launch_attempt"),
)


def good(name: str, **changes: object) -> Row:
    """A good speed trial of its own cell, with figures that agree."""
    return trial_row(**figures(LOAD, **{"trial_id": name, "cell_id": name, "output_tok_s": 100.0, **changes}))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    lab = Lab(Warehouse(tmp_path_factory.mktemp("faulty")))
    theirs = {"origin": "vllm", "source": "x.json", "source_sha256": "0" * 64}
    lab.rows("runs", [run_row(run_id=name, **theirs) for name in ("theirs", "no-file", "no-json")])
    lab.run()
    lab.run(run_id="no-file", origin="vllm", submitted_at=run_row()["submitted_at"].replace(hour=13))
    lab.run(run_id="own-file", source="x.json")
    lab.run(run_id="no-json", matrix_json="name: x", submitted_at=run_row()["submitted_at"].replace(hour=13))
    energy = {"energy_j": 50.0, "window_s": 10.0, "power_status": "available", "output_tok_s": 20.0}
    rows = [
        good("fine", energy_j_per_tok=0.25, **energy),
        good("stray", run_id="stray"),
        good("twice"),
        good("twice"),
        good("one", cell_id="two-meanings"),
        good("other", cell_id="two-meanings", batch=8),
        good("other-lengths"),
        good("no-rate", output_tok_s=None),
        good("zero", power_mean_w=0.0),
        good("unordered", itl_p50_ms=2.0, itl_p90_ms=1.0),
        good("backwards"),
        good("refused"),
        good("random", kind="quality"),
        good("lacking", kv_k=None, seed=None),
        good("as-served", hardware="unknown", **dict.fromkeys(("gpus", "tp", "pp", "dp"))),
        good("foreign", run_id="theirs", **dict.fromkeys(UNKNOWN)),
        good("energy", energy_j_per_tok=0.26, **energy),
        good("count", itl_n=7),
    ]
    lab.rows("trials", rows)
    lab.rows("refusals", [refusal_row("f16", cell_id="refused")])
    lengths = [request_row(0, [1, 1], output_tok=5), request_row(1, [1, 1], prompt_tok=63)]
    by_name = {row["trial_id"]: row for row in rows}
    requests = keyed(by_name["other-lengths"], lengths) + keyed(by_name["backwards"], [request_row(0, [1], end_ns=1)])
    lab.rows("requests", requests)
    lab.rows("quality_items", keyed(by_name["random"], [item_row(0, correct=True)]))
    return connect(lab.warehouse.root)


@pytest.mark.parametrize("check", FAULTS)
def test_a_fault_is_found_by_its_check_and_nothing_else_is(faulty: duckdb.DuckDBPyConnection, check: str) -> None:
    found = faulty.sql(f'FROM "check_{check}"')
    keys = [name for name in ("run_id", "trial_id", "cell_id") if name in found.columns][:2]
    rows = found.project(", ".join(keys)).fetchall()
    assert set(rows) == FAULTS[check]


def test_every_check_has_a_fault_that_it_finds(faulty: duckdb.DuckDBPyConnection) -> None:
    checks = {name.removeprefix("check_") for name in definitions() if name.startswith("check_")}
    assert failed_checks(faulty).keys() == FAULTS.keys() == checks


def test_what_an_own_trial_lacks_is_listed(faulty: duckdb.DuckDBPyConnection) -> None:
    assert faulty.sql("SELECT missing FROM check_own_row_incomplete").fetchall() == [(["kv_k", "seed"],)]


def test_a_good_warehouse_fails_no_check(tmp_path: Path) -> None:
    lab = Lab(Warehouse(tmp_path))
    lab.run()
    lab.speed("f16", 100.0)
    assert failed_checks(connect(tmp_path)) == {}
