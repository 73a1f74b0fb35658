from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.store import compact as module
from fleetbench.store.commit import Warehouse
from fleetbench.store.compact import MOST_FILES, RAW, Compaction, compact
from fleetbench.store.connection import connect, failed_checks
from fleetbench.store.manifest import latest, publish
from fleetbench.store.schema import SCHEMAS
from fleetbench.store.verify import verify
from fleetbench.store.write import locked
from tests.samples import Lab, keyed, request_row, run_row, trial_row

LATER = -1.0
"""A grace that is over at once."""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(Warehouse(tmp_path / "data"))
    made.warehouse.create()
    made.run()
    return made


def asked(root: Path, sql: str) -> list[Any]:
    with connect(root) as connection:
        return connection.execute(sql).fetchall()


def state(root: Path) -> list[Any]:
    """What an analyst sees, whichever files it is in."""
    views = ("runs", "trials", "requests", "cells", "cmp_recipe", "trial_sketches", "failures", "coverage")
    with connect(root) as connection:
        return [connection.execute(f"SELECT * FROM {view} ORDER BY ALL").fetchall() for view in views]  # noqa: S608


def landed(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.glob("landing/*/*/*"))


def test_a_warehouse_answers_the_same_before_and_after(lab: Lab) -> None:
    root = lab.warehouse.root
    for repeat in range(2):
        lab.speed(
            "f16", 100.0 + repeat, repeat, itl_n=3, itl_sketch={"gamma": 1.02, "zero": 1, "bins": [3], "counts": [2]}
        )
        lab.speed("q8_0", 120.0 + repeat, repeat)
    lab.trial(trial_row("q2_k", outcome="crashed", valid=False, reason="signal 9"))
    before = state(root)
    done = compact(root)
    assert (done.number, done.absorbed, done.written, done.left) == (1, 10, 3, 0)
    assert state(root) == before
    assert compact(root, grace_s=LATER).removed == 10
    assert landed(root) == []
    assert state(root) == before
    assert verify(root).findings == ()


def test_what_lands_afterwards_joins_what_is_compacted(lab: Lab) -> None:
    root = lab.warehouse.root
    lab.speed("f16", 100.0)
    compact(root)
    lab.speed("q8_0", 120.0)
    assert asked(root, "SELECT recipe, speedup_ratio FROM cmp_recipe ORDER BY ALL") == [("f16", 1.0), ("q8_0", 1.2)]
    compact(root)
    assert len(list(root.glob("compacted/*/*"))) == 5
    assert asked(root, "SELECT count(*) FROM requests") == [(4,)]


def test_a_second_time_there_is_nothing_to_do(lab: Lab) -> None:
    root = lab.warehouse.root
    lab.speed("f16", 100.0)
    compact(root)
    files = sorted(root.rglob("*"))
    assert compact(root) == Compaction(number=None, absorbed=0, written=0, removed=0, left=0)
    assert sorted(root.rglob("*")) == files


def test_resuming_knows_what_is_compacted(lab: Lab) -> None:
    row = trial_row("f16", output_tok_s=100.0)
    lab.warehouse.commit_trial(row, {"requests": keyed(row, [request_row(0, [1])])})
    before = lab.warehouse.committed("run1")
    compact(lab.warehouse.root)
    compact(lab.warehouse.root, grace_s=LATER)
    assert lab.warehouse.committed("run1") == before
    assert lab.warehouse.attempts("run1") == {row["trial_id"]: 1}
    assert not lab.warehouse.commit_trial(row, {"requests": keyed(row, [request_row(0, [9])])})
    assert not lab.warehouse.commit_trials([row, trial_row("q8_0")], {})
    assert landed(lab.warehouse.root) == []


def test_rows_of_a_trial_that_is_not_committed_stay_where_they_are(lab: Lab) -> None:
    row = trial_row("f16")
    lab.warehouse.commit("requests", keyed(row, [request_row(0, [1])]), run_id="run1", name=f"{row['trial_id']}-0")
    done = compact(lab.warehouse.root, grace_s=LATER)
    assert (done.absorbed, done.left) == (1, 1)
    assert [path.split("/")[1] for path in landed(lab.warehouse.root)] == ["requests", "runs"]
    lab.warehouse.commit_trial(row, {"requests": keyed(row, [request_row(0, [1])])})
    compact(lab.warehouse.root)
    assert asked(lab.warehouse.root, "SELECT count(*) FROM requests") == [(1,)]


def test_damaged_files_stay_and_are_counted(lab: Lab) -> None:
    root = lab.warehouse.root
    lab.speed("f16", 100.0)
    lab.speed("q8_0", 120.0)
    (victim, _) = sorted(root.glob("landing/trials/run1/*"))
    os.truncate(victim, 50)
    assert compact(root).left >= 1
    compact(root, grace_s=LATER)
    assert victim.exists()
    assert asked(root, "SELECT table_name FROM quarantined") == [("trials",)]
    assert asked(root, "SELECT count(*) FROM trials") == [(1,)]


@pytest.mark.parametrize("table", ["trials", "requests", "runs"])
@pytest.mark.parametrize("harm", ["cut", "empty", "gone", "flipped"])
def test_a_compacted_file_that_is_damaged_is_left_out_and_the_rest_answers(lab: Lab, table: str, harm: str) -> None:
    root = lab.warehouse.root
    lab.speed("f16", 100.0)
    compact(root)
    lab.speed("q8_0", 120.0)
    manifest = latest(root).manifest
    assert manifest is not None
    (path,) = [root / file.path for file in manifest.files if file.table == table]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(bytes({"cut": data[:60], "empty": bytearray(), "flipped": data}[harm]))
    with connect(root) as connection:
        kept = connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - our own names
        found = connection.execute("SELECT table_name FROM quarantined").fetchall()
    if (table, harm) != ("requests", "flipped"):  # in a page of a large table it is met when it is read, or by verify
        assert found == [(table,)]
        assert len(kept) == {"trials": 1, "requests": 2, "runs": 0}[table]
    assert [one.kind for one in verify(root).findings if table in one.where] != []


def test_the_many_files_of_many_nights_become_few(lab: Lab) -> None:
    root = lab.warehouse.root
    for night in range(MOST_FILES + 4):
        row = trial_row("f16", night, output_tok_s=100.0)
        lab.warehouse.commit_trial(row, {"requests": keyed(row, [request_row(0, [night])])})
        compact(root)
    manifest = latest(root).manifest
    assert manifest is not None
    assert sum(file.table == "requests" for file in manifest.files) <= MOST_FILES
    assert asked(root, "SELECT count(*), count(DISTINCT trial_id) FROM requests") == [(20, 20)]
    assert compact(root, grace_s=LATER).removed > 0
    named = {root / file.path for file in manifest.files}
    assert set((root / "compacted").glob("*/*")) == named
    assert asked(root, "SELECT count(*), count(DISTINCT trial_id) FROM trials") == [(20, 20)]
    assert len(list(root.glob("manifest/*"))) <= module.KEPT_MANIFESTS


def test_raw_rows_of_old_runs_are_dropped_and_all_else_stays(lab: Lab) -> None:
    root = lab.warehouse.root
    lab.speed("f16", 100.0)
    new = trial_row("f16", run_id="run2", output_tok_s=90.0)
    lab.run(run_id="run2", submitted_at=run_row()["submitted_at"].replace(year=2027))
    lab.warehouse.commit_trial(new, {"requests": keyed(new, [request_row(0, [1])])})
    compact(root)
    now = run_row()["submitted_at"].timestamp() + 90 * 86_400
    done = compact(root, drop_raw_after_s=30 * 86_400, now_s=now)
    assert done.dropped == ("run1",)
    assert asked(root, "SELECT DISTINCT run_id FROM requests") == [("run2",)]
    assert asked(root, "SELECT run_id, output_tok_s FROM cells ORDER BY ALL") == [("run1", 100.0), ("run2", 90.0)]
    assert verify(root).findings == ()
    assert compact(root, drop_raw_after_s=30 * 86_400, now_s=now).number is None
    compact(root, grace_s=LATER)
    assert asked(root, "SELECT DISTINCT run_id FROM requests") == [("run2",)]


def test_what_was_left_out_is_removed_by_a_later_night_that_has_work_too(lab: Lab) -> None:
    root, now = lab.warehouse.root, 1e9
    for night in range(3):
        lab.speed("f16", 100.0, night)
        compact(root, now_s=now + night * 86_400)
        assert len(landed(root)) == (3 if night == 0 else 2)


def test_a_damaged_manifest_is_counted_the_one_before_it_counts_and_nothing_is_compacted(lab: Lab) -> None:
    root = lab.warehouse.root
    lab.speed("f16", 100.0)
    compact(root)
    lab.speed("q8_0", 120.0)
    compact(root)
    last = max(root.glob("manifest/*"))
    last.write_bytes(last.read_bytes().replace(b"requests", b"requests_", 1))
    assert asked(root, "SELECT table_name, path FROM quarantined") == [("manifest", str(last))]
    assert asked(root, "SELECT count(*), count(DISTINCT trial_id) FROM trials") == [(2, 2)]
    assert asked(root, "SELECT count(*) FROM requests") == [(4,)]
    with pytest.raises(UnusableEnvironmentError, match=rf"{last.name}: not as it was written.*put it back"):
        compact(root, grace_s=0)


@pytest.mark.parametrize("how", ["damaged", "lost"])
def test_without_any_manifest_nothing_is_told_and_nothing_removed(lab: Lab, how: str) -> None:
    root = lab.warehouse.root
    lab.speed("f16", 100.0)
    compact(root, grace_s=0)
    compact(root, grace_s=0)
    before = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    for path in root.glob("manifest/*"):
        path.unlink() if how == "lost" else path.write_bytes(path.read_bytes()[:-9])
    for act in (connect, compact):
        with pytest.raises(UnusableEnvironmentError, match="no manifest says which compacted files"):
            act(root)
    assert {path: path.read_bytes() for path in root.rglob("*.parquet")} == before


@pytest.mark.parametrize("folder", ["landing/trials", "compacted", "manifest"])
def test_a_folder_that_is_a_file_is_told_of_and_nothing_compacted(lab: Lab, folder: str) -> None:
    root = lab.warehouse.root
    lab.speed("f16", 100.0)
    shutil.rmtree(root / folder, ignore_errors=True)
    (root / folder).write_text("x")
    assert asked(root, "SELECT path FROM quarantined") == [(str(root / folder),)]
    with pytest.raises(UnusableEnvironmentError, match="is no folder"):
        compact(root)


def test_a_pipe_or_a_device_in_landing_is_left_out(lab: Lab) -> None:
    root = lab.warehouse.root
    lab.speed("f16", 100.0)
    for table in ("trials", "requests"):
        os.mkfifo(root / "landing" / table / "run1" / "pipe.parquet")
        (root / "landing" / table / "run1" / "zero.parquet").symlink_to("/dev/zero")
        (root / "landing" / table / "run1" / "gone.parquet").symlink_to("nowhere")
    reasons = [row[0] for row in asked(root, "SELECT DISTINCT reason FROM quarantined ORDER BY ALL")]
    assert len([reason for reason in reasons if "no regular file" in reason]) == 1
    assert asked(root, "SELECT count(*) FROM requests") == [(2,)]
    assert {finding.where.rpartition("/")[2] for finding in verify(root).findings} >= {
        "pipe.parquet",
        "zero.parquet",
        "gone.parquet",
    }
    assert compact(root).left == 6


def test_damage_is_not_merged_into_a_file_with_a_good_hash(lab: Lab) -> None:
    root = lab.warehouse.root
    lab.speed("f16", 100.0)
    compact(root)
    (path,) = root.glob("compacted/requests/*")
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    compact(root, drop_raw_after_s=1.0, now_s=2e9, grace_s=LATER)
    assert [one.where for one in verify(root).findings] == [str(path.relative_to(root))]


def test_a_trial_whose_row_cannot_be_read_keeps_its_rows_in_landing(lab: Lab) -> None:
    root = lab.warehouse.root
    lab.speed("f16", 100.0)
    (victim,) = root.glob("landing/trials/run1/*")
    os.truncate(victim, 50)
    assert compact(root, grace_s=LATER).left == 2
    compact(root, grace_s=LATER)
    assert sorted(path.split("/")[1] for path in landed(root)) == ["requests", "trials"]


def test_resuming_is_told_of_a_compacted_file_that_is_damaged(lab: Lab) -> None:
    lab.speed("f16", 100.0)
    compact(lab.warehouse.root)
    (path,) = lab.warehouse.root.glob("compacted/trials/*")
    os.truncate(path, 50)
    assert lab.warehouse.scan("run1").skipped == (path,)


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no warehouse"):
        compact(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_same_rows_committed_again_are_seen_once(lab: Lab) -> None:
    root = lab.warehouse.root
    compact(root, grace_s=LATER)
    lab.warehouse.commit("runs", [run_row()], run_id="run1", name="submission-1")
    assert asked(root, "SELECT count(*) FROM runs_all") == [(1,)]


def test_every_raw_table_is_of_trials() -> None:
    assert all("trial_id" in SCHEMAS[table].names for table in RAW)


def test_two_at_once_are_one_and_a_sentence(lab: Lab) -> None:
    with locked(lab.warehouse.root, "compact"), pytest.raises(UnusableEnvironmentError, match="another compaction"):
        compact(lab.warehouse.root)


def test_a_manifest_that_another_host_published_first_counts(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is one machine's; over a network file system the manifest's number decides."""
    lab.speed("f16", 100.0)
    write = module._write
    root = lab.warehouse.root

    def slow(*args: Any) -> Any:
        monkeypatch.setattr(module, "_write", write)
        with monkeypatch.context() as other:
            other.setattr(module, "locked", lambda *_, **__: locked(root, "elsewhere"))
            compact(root)
        return write(*args)

    monkeypatch.setattr(module, "_write", slow)
    with pytest.raises(UnusableEnvironmentError, match="was first"):
        compact(root)
    assert asked(root, "SELECT count(*) FROM requests") == [(2,)]
    assert failed_checks(connect(root)) == {}


def test_rows_lie_so_that_one_trial_is_found_in_few_groups(lab: Lab) -> None:
    for repeat in range(30):
        row = trial_row("f16", repeat)
        lab.warehouse.commit_trial(row, {"requests": keyed(row, [request_row(n, [1]) for n in range(5)])})
    compact(lab.warehouse.root)
    (path,) = lab.warehouse.root.glob("compacted/requests/*")
    ids = pq.read_table(path)["trial_id"].to_pylist()
    assert ids == sorted(ids)


WRITER = """
    import itertools, sys
    from pathlib import Path
    from fleetbench.store.commit import Warehouse
    from tests.samples import keyed, request_row, run_row, trial_row
    warehouse = Warehouse(Path(sys.argv[1]))
    warehouse.commit("runs", [run_row(run_id=sys.argv[2])], run_id=sys.argv[2], name="run")
    for n in itertools.count():
        row = trial_row(run_id=sys.argv[2], trial_id=f"t{n}", cell_id=f"c{n}", output_tok_s=1.0, completed_requests=3)
        warehouse.commit_trial(row, {"requests": keyed(row, [request_row(i, [n]) for i in range(3)])})
        print(n, flush=True)
"""
COMPACTOR = """
    import sys
    from pathlib import Path
    from fleetbench.store.compact import compact
    print("ready", flush=True)
    while True:
        print(compact(Path(sys.argv[1])).number, flush=True)
"""


def start(code: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *args], stdout=subprocess.PIPE, text=True)


def test_whoever_is_killed_every_trial_is_there_once(tmp_path: Path) -> None:
    """A writer and a compactor on one warehouse die at moments that a seed decides; a reader looks meanwhile."""
    root, chance = tmp_path / "data", random.Random(3)  # noqa: S311 - moments to kill at, no secret
    Warehouse(root).create()
    said: dict[str, int] = {}
    for round_ in range(4):
        run = f"run{round_}"
        with start(WRITER, str(root), run) as writer, start(COMPACTOR, str(root)) as compactor:
            assert writer.stdout is not None
            assert compactor.stdout is not None
            for _ in range(chance.randrange(1, 3)):
                compactor.stdout.readline()
            for _ in range(chance.randrange(1, 15)):
                said[run] = int(writer.stdout.readline()) + 1
            counted = asked(root, "SELECT run_id, count(*), count(DISTINCT trial_id) FROM trials GROUP BY ALL")
            for victim in chance.sample([writer, compactor], 2):
                victim.send_signal(signal.SIGKILL)
            said[run] = max([said[run], *(int(line) + 1 for line in writer.stdout.read().split())])
        assert all(trials == distinct for _, trials, distinct in counted)
        seen = {run_id: trials for run_id, trials, _ in counted}
        assert all(seen[earlier] in (least, least + 1) for earlier, least in said.items() if earlier != run)
    final = {
        run_id: (trials, requests)
        for run_id, trials, requests in asked(
            root,
            "SELECT run_id, count(DISTINCT trial_id), count(*) FROM trials JOIN requests USING (run_id, trial_id) "
            "GROUP BY ALL",
        )
    }
    for run_id, least in said.items():
        assert final[run_id][0] in (least, least + 1)
        assert final[run_id][1] == 3 * final[run_id][0]
    Warehouse(root).create()  # the next writer's start clears what dead ones left
    compact(root)
    compact(root, grace_s=LATER)
    assert verify(root).findings == ()
    assert dict(asked(root, "SELECT run_id, count(*) FROM trials GROUP BY ALL")) == {
        run_id: trials for run_id, (trials, _) in final.items()
    }


def test_a_manifest_is_never_replaced(lab: Lab) -> None:
    lab.speed("f16", 100.0)
    compact(lab.warehouse.root)
    manifest = latest(lab.warehouse.root).manifest
    assert manifest is not None
    assert not publish(lab.warehouse.root, manifest)
