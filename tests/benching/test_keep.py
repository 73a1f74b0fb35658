from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetbench.bench.keep import keep
from fleetbench.bench.verdict import Judged, judged
from fleetbench.errors import FleetbenchError
from fleetbench.report.speed import model_name
from fleetbench.store.connection import connect, failed_checks
from fleetbench_collectors.load.arrivals import ramp
from fleetbench_collectors.load.workload import File, OpenLoop, Replay
from tests.benching.ask import asked, loaded, row, sent
from tests.truth.run import serve


def some() -> Judged:
    return judged(loaded([row(0), row(1, "timeout")], batch=1, requests=2), interrupted=False)


def test_every_request_and_the_verdict_are_in_the_warehouse_and_its_checks_find_nothing(
    truth: list[str], tmp_path: Path
) -> None:
    with serve(truth, itl_us=2_000) as server:
        found = judged(sent(asked(server.url, processes=2, warmup=2)), interrupted=False)
        log = server.stop().log
    run_id = keep(found, tmp_path)
    with connect(tmp_path) as warehouse:
        ((requests, distinct, first_ns),) = warehouse.execute(
            "SELECT count(*), count(DISTINCT request), min(start_ns) FROM requests WHERE run_id = ?", [run_id]
        ).fetchall()
        trials = warehouse.execute("SELECT valid, reason, batch, context_tok, output_tok_s FROM trials").fetchall()
        received = warehouse.execute(
            "SELECT start_ns + clock_mono_ns FROM requests JOIN trials USING (run_id, trial_id) ORDER BY 1"
        ).fetchall()
        assert failed_checks(warehouse) == {}
    assert (requests, distinct, first_ns >= 0) == (8, 8, True)
    assert trials == [(found.row["valid"], found.validity.reason, 2, 32, found.row["output_tok_s"])]
    for (start_ns,), logged in zip(received, log[-8:], strict=True):
        assert start_ns <= logged.received_ns


def test_a_load_without_a_completed_request_is_kept_too(tmp_path: Path) -> None:
    found = judged(loaded([row(0, "timeout")], batch=1), interrupted=False)
    keep(found, tmp_path)
    with connect(tmp_path) as warehouse:
        assert warehouse.execute("SELECT outcome, output_tok_s, ttft_n FROM trials").fetchall() == [
            ("invalid", None, 0)
        ]
        assert failed_checks(warehouse) == {}


def test_a_load_of_no_request_at_all_is_kept_too(tmp_path: Path) -> None:
    keep(judged(loaded([], batch=1), interrupted=True), tmp_path)
    with connect(tmp_path) as warehouse:
        assert warehouse.execute("SELECT valid FROM trials").fetchall() == [(False,)]
        assert failed_checks(warehouse) == {}


def test_two_loads_are_two_runs(tmp_path: Path) -> None:
    assert keep(some(), tmp_path) != keep(some(), tmp_path)


def test_a_folder_that_is_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FleetbenchError, match="file"):
        keep(some(), tmp_path / "file")


def test_a_folder_that_cannot_be_made_is_refused_in_words() -> None:
    with pytest.raises(FleetbenchError, match="cannot be used"):
        keep(some(), Path("/proc/no such folder"))


def kept(folder: Path, sql: str, *loads: Judged) -> list[tuple[Any, ...]]:
    for each in loads:
        keep(each, folder)
    with connect(folder) as warehouse:
        assert failed_checks(warehouse) == {}
        return warehouse.execute(sql).fetchall()


OTHERS: list[dict[str, Any]] = [
    {"shared_tok": 8},
    {"body": {"top_k": 1}},
    {"warmup": 3},
    {"prompts_file": File(path="a", unique=True)},
    {"arrivals": Replay(path="a")},
    {"arrivals": OpenLoop(profile=ramp(1, 9, 60), process="gamma")},
    {"arrivals": OpenLoop(profile=ramp(1, 9, 60), process="gamma", burstiness=0.5)},
    {"arrivals": OpenLoop(profile=ramp(1, 9, 50), process="gamma")},
    {"headers": {"X-Tier": "fast"}},
]


def test_loads_that_differ_in_anything_are_different_cells_and_who_asks_makes_no_difference(tmp_path: Path) -> None:
    same: list[dict[str, Any]] = [{}, {"api_key": "k"}, {"headers": {"authorization": "k"}}, {"processes": 2}]
    loads = [judged(loaded([row(0)], **{"batch": 1, **changes}), interrupted=False) for changes in [*same, *OTHERS]]
    cells = kept(tmp_path, "SELECT cell_id, count(*) FROM trials GROUP BY cell_id", *loads)
    assert sorted(count for _, count in cells) == [1] * len(OTHERS) + [len(same)]


@pytest.mark.parametrize(
    ("changes", "context_tok", "output_tok"),
    [
        ({}, 32, 4),
        ({"prompts_file": File(path="a", unique=True)}, None, 4),
        ({"arrivals": Replay(path="a")}, None, None),
    ],
)
def test_what_nobody_knows_is_null(
    changes: dict[str, Any], context_tok: int | None, output_tok: int | None, tmp_path: Path
) -> None:
    load = judged(loaded([row(0)], **{"batch": 1, **changes}), interrupted=False)
    sql = "SELECT context_tok, output_tok, gpus, tp, pp, dp FROM trials"
    assert kept(tmp_path, sql, load) == [(context_tok, output_tok, None, None, None, None)]


def test_a_load_whose_lengths_and_devices_nobody_knows_still_is_its_own_reference(tmp_path: Path) -> None:
    load = judged(loaded([row(number) for number in range(6)], batch=1, arrivals=Replay(path="a")), interrupted=False)
    assert kept(tmp_path, "SELECT speedup_ratio FROM cmp_recipe", load) == [(1.0,)]


def test_a_table_does_not_name_degrees_that_nobody_knows() -> None:
    assert model_name({"model": "m", "random_weights": False, "tp": None, "pp": 1, "dp": 2}) == "m, dp 2"


def test_metrics_stand_at_the_times_they_were_read_whatever_came_of_the_load(tmp_path: Path) -> None:
    stamps: dict[str, Any] = {"before": [("x", 1.0)], "before_ns": 5, "after": [("x", 2.0)], "after_ns": 90_000_000}
    load = replace(loaded([row(0, "timeout")], batch=1), **stamps)
    sql = "SELECT phase, at_ns, value FROM engine_metrics ORDER BY at_ns"
    found = kept(tmp_path, sql, judged(load, interrupted=False))
    assert found == [("before", 5, 1.0), ("after", 90_000_000, 2.0)]
