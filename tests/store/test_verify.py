from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from fleetbench.store.commit import Warehouse
from fleetbench.store.compact import compact
from fleetbench.store.verify import verify, verify_files
from tests.samples import Lab, keyed, request_row, trial_row


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some trials compacted and some as they landed."""
    lab = Lab(Warehouse(tmp_path_factory.mktemp("built") / "data"))
    lab.warehouse.create()
    lab.run()
    lab.speed("f16", 100.0, completed_requests=2)
    compact(lab.warehouse.root)
    compact(lab.warehouse.root, grace_s=-1)
    lab.speed("q8_0", 120.0, completed_requests=2)
    return lab.warehouse.root


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "data"))


def test_what_is_whole_has_no_finding_and_every_byte_is_counted(root: Path) -> None:
    found = verify(root)
    assert found.findings == ()
    assert found.uncommitted == 0
    files = [path for path in root.rglob("*") if path.suffix in (".parquet", ".json")]
    assert (found.files, found.bytes) == (len(files), sum(path.stat().st_size for path in files))


def test_a_flipped_bit_anywhere_is_found(built: Path, root: Path) -> None:
    chance = random.Random(11)  # noqa: S311 - places to damage, no secret
    files = sorted(path for path in root.rglob("*") if path.suffix in (".parquet", ".json"))
    for path in files:
        for _ in range(6):
            data = bytearray(path.read_bytes())
            place = chance.randrange(len(data))
            data[place] ^= 1 << chance.randrange(8)
            path.write_bytes(data)
            named = [one.where for one in verify_files(root).findings]
            assert str(path.relative_to(root)) in named, (path, place)
            shutil.copy(built / path.relative_to(root), path)


@pytest.mark.parametrize("size", [0, 4, 100])
def test_files_that_are_cut_short_are_named(root: Path, size: int) -> None:
    paths = [*root.glob("landing/*/*/*"), *root.glob("compacted/*/*")]
    for path in paths:
        os.truncate(path, size)
    named = {one.where for one in verify_files(root).findings if one.kind == "damaged"}
    assert named == {str(path.relative_to(root)) for path in paths}


def test_files_that_are_gone_or_belong_to_nobody_are_named(root: Path) -> None:
    (gone,) = root.glob("compacted/requests/*")
    gone.unlink()
    (root / "landing/trials/run1/notes.txt").write_text("hello")
    (root / "results.csv").write_text("a,b")
    found = {(one.kind, one.where) for one in verify(root).findings}
    assert {
        ("missing", str(gone.relative_to(root))),
        ("missing", "run1"),  # its trial has no requests any more
        ("foreign", "landing/trials/run1/notes.txt"),
        ("foreign", "results.csv"),
    } <= found


def test_rows_whose_trial_was_never_committed_are_counted_and_no_mistake(root: Path) -> None:
    row = trial_row("q4_k")
    Warehouse(root).commit("requests", keyed(row, [request_row(0, [1])]), run_id="run1", name=f"{row['trial_id']}-0")
    found = verify(root)
    assert (found.uncommitted, found.findings) == (1, ())


def test_a_check_in_sql_that_finds_rows_is_a_finding(root: Path) -> None:
    Warehouse(root).commit_trial(trial_row("q3_k", run_id="nobody", output_tok_s=1.0), {})
    assert ("check", "trial_without_run") in {(one.kind, one.where) for one in verify(root).findings}
