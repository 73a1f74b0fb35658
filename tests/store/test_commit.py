from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.matrix.types import Outcome
from fleetbench.store import commit as commit_module
from fleetbench.store import layout
from fleetbench.store.commit import Warehouse, best
from fleetbench.store.schema import SCHEMAS
from fleetbench.store.write import StoreError, publish
from tests.samples import keyed, request_row, run_row, trial_row


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    made = Warehouse(tmp_path / "data")
    made.create()
    return made


def files(warehouse: Warehouse, table: str = "*") -> list[str]:
    return sorted(path.name for path in warehouse.root.glob(f"landing/{table}/*/*"))


def test_a_committed_trial_is_found_again_with_what_resume_needs(warehouse: Warehouse) -> None:
    row = trial_row("q8_0", outcome="crashed", valid=False, reason="signal 9")
    assert warehouse.commit_trial(row, {})
    (found,) = warehouse.committed("run1")
    assert (found.trial_id, found.attempt, found.outcome) == (row["trial_id"], 0, Outcome.CRASHED)
    assert not found.valid
    assert warehouse.committed("another") == []


def test_the_trials_own_row_is_written_last(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def spy(tmp: Path, target: Path) -> None:
        seen.append(target.parent.parent.name)
        publish(tmp, target)

    monkeypatch.setattr(commit_module, "publish", spy)
    row = trial_row()
    warehouse.commit_trial(row, {"requests": keyed(row, [request_row(0, [1])]), "power": []})
    assert seen == ["requests", "power", "trials"]


def test_the_first_commit_of_an_attempt_stands(warehouse: Warehouse) -> None:
    row = trial_row()
    assert warehouse.commit_trial(row, {"requests": keyed(row, [request_row(0, [1])])})
    assert not warehouse.commit_trial(row, {"requests": keyed(row, [])})
    (path,) = warehouse.root.glob("landing/requests/*/*.parquet")
    assert pq.read_metadata(path).num_rows == 1
    assert len(files(warehouse)) == 2


def test_what_a_dead_attempt_left_is_replaced_and_does_not_become_part_of_the_next(warehouse: Warehouse) -> None:
    row = trial_row()
    name = layout.trial_name(row["trial_id"], 0)
    for table in ("requests", "engine_metrics"):
        warehouse.commit(table, keyed(row, []), run_id="run1", name=name)
    assert warehouse.commit_trial(row, {"requests": keyed(row, [request_row(0, [1])])})
    assert files(warehouse, "engine_metrics") == []
    (path,) = warehouse.root.glob("landing/requests/*/*.parquet")
    assert pq.read_metadata(path).num_rows == 1


def test_what_is_committed_under_one_name_stands_side_by_side_and_the_same_only_once(warehouse: Warehouse) -> None:
    paths = [warehouse.commit("runs", [run_row(cells=cells)], run_id="run1", name="s") for cells in (1, 2, 1)]
    assert paths[0] == paths[2] != paths[1]
    assert files(warehouse, "runs") == sorted({path.name for path in paths})
    for path in set(paths):
        assert path.name == f"s.{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.parquet"


def test_many_trials_are_committed_at_once_or_not_at_all(warehouse: Warehouse) -> None:
    rows = [trial_row(repeat=repeat) for repeat in range(3)]
    requests = [one for row in rows for one in keyed(row, [request_row(0, [1])])]
    assert warehouse.commit_trials(rows, {"requests": requests})
    assert len(files(warehouse)) == 2
    assert {trial.trial_id for trial in warehouse.committed("run1")} == {row["trial_id"] for row in rows}
    assert not warehouse.commit_trials(rows, {"requests": requests})
    assert not warehouse.commit_trials([*rows[1:], trial_row(repeat=7)], {})
    assert not warehouse.commit_trial(rows[0], {})
    assert len(files(warehouse)) == 2
    with pytest.raises(ValueError, match="of one run"):
        warehouse.commit_trials([trial_row(), trial_row(run_id="run2")], {})
    with pytest.raises(ValueError, match="rows of trial_id"):
        warehouse.commit_trials([trial_row(repeat=8), trial_row(repeat=9)], {"requests": requests})


def test_the_next_attempt_is_one_that_no_file_has(warehouse: Warehouse) -> None:
    row = trial_row()
    assert warehouse.attempts("run1") == {}
    for attempt in (0, 1):
        warehouse.commit_trial({**row, "attempt": attempt}, {})
    broken = warehouse.root / "landing/trials/run1" / f"{layout.trial_name(row['trial_id'], 4)}.parquet"
    broken.write_bytes(b"")
    warehouse.commit_trial(trial_row("q8_0"), {})
    assert warehouse.attempts("run1") == {row["trial_id"]: 5, trial_row("q8_0")["trial_id"]: 1}


def test_a_trial_whose_row_was_damaged_is_measured_again_and_then_there(warehouse: Warehouse) -> None:
    row = trial_row()
    warehouse.commit_trial(row, {"requests": keyed(row, [request_row(0, [1])])})
    (damaged,) = warehouse.root.glob("landing/trials/run1/*.parquet")
    os.truncate(damaged, 100)
    assert warehouse.committed("run1") == []
    again = {**row, "attempt": warehouse.attempts("run1")[row["trial_id"]]}
    assert warehouse.commit_trial(again, {"requests": keyed(again, [request_row(0, [1])])})
    assert [(trial.trial_id, trial.attempt) for trial in warehouse.committed("run1")] == [(row["trial_id"], 1)]


def test_a_trial_with_any_damaged_byte_counts_as_not_committed(warehouse: Warehouse) -> None:
    warehouse.commit_trial(trial_row(), {})
    (path,) = warehouse.root.glob("landing/trials/run1/*.parquet")
    column = pq.read_metadata(path).row_group(0).column(SCHEMAS["trials"].get_field_index("engine_version"))
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(data)
    assert warehouse.scan("run1").skipped == (path,)


def test_a_file_that_is_cut_short_or_foreign_is_skipped_and_named(warehouse: Warehouse) -> None:
    warehouse.commit_trial(trial_row(), {})
    folder = warehouse.root / "landing/trials/run1"
    (whole,) = folder.glob("*.parquet")
    (folder / "cut.parquet").write_bytes(whole.read_bytes()[:-20])
    (folder / "text.parquet").write_text("hello")
    (warehouse.root / "landing/trials/run1/run.parquet").write_bytes(_run_file(warehouse))
    scan = warehouse.scan("run1")
    assert [trial.trial_id for trial in scan.trials] == [trial_row()["trial_id"]]
    assert [path.name for path in scan.skipped] == ["cut.parquet", "run.parquet", "text.parquet"]


def _run_file(warehouse: Warehouse) -> bytes:
    return warehouse.commit("runs", [run_row()], run_id="run1", name="s").read_bytes()


def test_the_best_attempt_is_a_good_one_then_the_last(warehouse: Warehouse) -> None:
    for attempt, outcome in enumerate(["crashed", "ok", "lost", "ok", "invalid"]):
        warehouse.commit_trial(trial_row(attempt=attempt, outcome=outcome, valid=outcome == "ok"), {})
    ((trial, chosen),) = best(warehouse.committed("run1")).items()
    assert (trial, chosen.attempt) == (trial_row()["trial_id"], 3)


def test_rows_of_another_trial_are_refused(warehouse: Warehouse) -> None:
    stray = keyed(trial_row("q8_0"), [request_row(0, [1])])
    with pytest.raises(ValueError, match="requests has rows of trial_id"):
        warehouse.commit_trial(trial_row(), {"requests": stray})
    with pytest.raises(ValueError, match="commit it apart"):
        warehouse.commit_trial(trial_row(), {"host": []})
    assert files(warehouse) == []


@pytest.mark.parametrize("part", ["", ".", "..", "a/b", ".hidden", "a b", "a\n", "é"])
def test_a_name_cannot_leave_its_folder(warehouse: Warehouse, part: str) -> None:
    with pytest.raises(ValueError, match="warehouse path"):
        warehouse.commit("runs", [run_row()], run_id=part, name="s")
    with pytest.raises(ValueError, match="warehouse path"):
        warehouse.commit("runs", [run_row()], run_id="run1", name=part)


def _commit_many(root: Path, writer: int) -> int:
    warehouse = Warehouse(root)
    rows = [trial_row("f16", repeat, trial_id=f"t{repeat}") for repeat in range(10)]
    return sum(
        warehouse.commit_trial(row, {"requests": keyed(row, [request_row(n, [writer]) for n in range(writer + 1)])})
        for row in rows
    )


def test_writers_that_commit_the_same_trials_at_once_keep_each_once(warehouse: Warehouse) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        kept = list(pool.map(_commit_many, [warehouse.root] * 3, range(3)))
    assert sum(kept) == 10
    assert len(warehouse.committed("run1")) == 10
    assert not [name for name in files(warehouse) if not name.endswith(".parquet")]


LIMITED = """
    import resource, signal, sys
    from pathlib import Path
    from fleetbench.store.commit import StoreError, Warehouse
    from tests.samples import trial_row
    warehouse = Warehouse(Path(sys.argv[1]))
    warehouse.create()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        warehouse.commit_trial(trial_row(), {})
    except StoreError as error:
        print(error)
"""


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "data")
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(warehouse.root)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "no room left" in ran.stdout
    assert files(warehouse) == []


def test_a_disk_that_fills_up_between_tables_leaves_no_committed_trial(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="no room left"):
        warehouse.commit_trial(trial_row(), {"requests": []})
    monkeypatch.undo()
    assert files(warehouse) == []
    assert warehouse.commit_trial(trial_row(), {"requests": []})


@pytest.mark.parametrize("place", ["/proc/fleetbench", "/dev/null/data"])
def test_a_place_that_cannot_be_written_is_an_unusable_environment(place: str) -> None:
    with pytest.raises(UnusableEnvironmentError, match=place.split("/")[1]):
        Warehouse(Path(place)).create()
    with pytest.raises(StoreError, match="--warehouse"):
        Warehouse(Path(place)).commit_trial(trial_row(), {})


def test_only_what_dead_writers_left_is_swept(warehouse: Warehouse) -> None:
    folder = warehouse.root / "landing" / "trials"
    mine = folder / layout.tmp_name("a", 1)
    host, _, rest = mine.name.removeprefix("a.").partition("-")
    pid = int(rest.split("-")[0])
    with subprocess.Popen(["true"]) as gone:
        pass
    dead = folder / f"b.{host}-{gone.pid}-1-0.tmp"
    reused = folder / f"c.{host}-{pid}-1-0.tmp"
    elsewhere, old = folder / "d.00000000-1-1-0.tmp", folder / "e.00000000-1-1-0.tmp"
    for path in (mine, dead, reused, elsewhere, old):
        path.touch()
    os.utime(old, (0, 0))
    warehouse.create()
    assert sorted(folder.glob("*.tmp")) == sorted([mine, elsewhere])


WRITER = """
    import itertools, sys
    from pathlib import Path
    from fleetbench.store.commit import Warehouse
    from fleetbench.store.write import StoreError, publish
from tests.samples import keyed, request_row, trial_row
    warehouse = Warehouse(Path(sys.argv[1]))
    print("ready", flush=True)
    for n in itertools.count():
        row = trial_row(run_id=sys.argv[2], trial_id=f"t{n}")
        warehouse.commit_trial(row, {"requests": keyed(row, [request_row(i, [n] * 200) for i in range(20)])})
        print(n, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_whole_files_and_no_lost_trial(warehouse: Warehouse) -> None:
    chance = random.Random(0)  # noqa: S311 - moments to kill at, no secret
    for kill in range(8):
        command = [sys.executable, "-c", textwrap.dedent(WRITER), str(warehouse.root), f"run{kill}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(chance.randrange(1, 12))]
            writer.send_signal(signal.SIGKILL)
            said += writer.stdout.readlines()
        scan = warehouse.scan(f"run{kill}")
        assert not scan.skipped
        done = {f"t{line.strip()}" for line in said[1:] if line.endswith("\n")}
        assert done <= {trial.trial_id for trial in scan.trials}
    for path in warehouse.root.glob("landing/*/*/*.parquet"):
        pq.read_table(path)
    warehouse.create()
    assert not list(warehouse.root.rglob("*.tmp"))
