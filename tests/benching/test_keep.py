from __future__ import annotations

from pathlib import Path

import pytest

from fleetbench.bench.keep import keep
from fleetbench.bench.verdict import Judged, judged
from fleetbench.errors import FleetbenchError
from fleetbench.store.views import connect, failed_checks
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
