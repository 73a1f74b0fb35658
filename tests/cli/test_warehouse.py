"""`fleetbench warehouse` and `fleetbench.open`: the files behind the tables, and the ways into them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

import fleetbench
from fleetbench.errors import InputError
from fleetbench.store.commit import Warehouse
from fleetbench.store.write import locked
from tests.cli.inside import inside
from tests.samples import Lab


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lab = Lab(Warehouse(tmp_path / "warehouse"))
    lab.warehouse.create()
    lab.run()
    lab.speed("f16", 100.0)
    lab.speed("q8_0", 150.0)
    return tmp_path


def test_a_compaction_says_what_it_did_and_a_second_one_that_there_is_nothing_to_do(folder: Path) -> None:
    done = inside("warehouse", "compact", folder=folder)
    assert (done.code, done.err) == (0, "")
    assert "5 landed files are 3 now (manifest 1)" in done.out
    assert "nothing new to take up" in inside("warehouse", "compact", folder=folder).out
    again = inside("warehouse", "compact", "--grace", "0.000001", "--format", "json", folder=folder)
    (row,) = json.loads(again.out)
    assert (row["manifest"], row["absorbed"], row["removed"]) == (2, 0, 5)
    assert not list((folder / "warehouse/landing").rglob("*.parquet"))


def test_old_runs_lose_their_single_requests_alone(folder: Path) -> None:
    done = inside("warehouse", "compact", "--drop-raw-after", "0", folder=folder)
    assert "1 runs have no rows of single requests any more" in done.out
    query = "SELECT (SELECT count(*) FROM requests) AS r, count(*) AS c FROM cells"
    assert inside("sql", query, "--format", "csv", folder=folder).out == "r,c\n0,2\n"


def test_a_whole_warehouse_is_verified_and_damage_is_named_with_exit_1(folder: Path) -> None:
    whole = inside("warehouse", "verify", folder=folder)
    assert whole.code == 0
    assert "5 files" in whole.out
    assert "all as it was written" in whole.out
    victim = min((folder / "warehouse/landing/requests").rglob("*.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 4
    victim.write_bytes(data)
    found = inside("warehouse", "verify", folder=folder)
    assert found.code == 1
    assert f"damaged {victim.relative_to(folder / 'warehouse')}" in found.out
    (row, *_) = json.loads(inside("warehouse", "verify", "--format", "json", folder=folder).out)
    assert row["kind"] == "damaged"


@pytest.mark.parametrize("command", ["compact", "verify", "open"])
def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path, command: str) -> None:
    said = inside("warehouse", command, folder=tmp_path)
    assert said.code == 2
    assert "there is no warehouse at" in said.err
    assert not (tmp_path / "warehouse").exists()


def test_a_compaction_beside_another_is_a_sentence(folder: Path) -> None:
    with locked(folder / "warehouse", "compact"):
        said = inside("warehouse", "compact", folder=folder)
    assert said.code == 4
    assert "another compaction" in said.err


def test_the_script_makes_the_same_views_in_a_plain_duckdb(folder: Path) -> None:
    said = inside("warehouse", "open", "--output", "init.sql", folder=folder)
    assert said.out == "init.sql: duckdb -init init.sql\n"
    with duckdb.connect(":memory:") as plain:
        plain.execute((folder / "init.sql").read_text())
        assert plain.execute("SELECT speedup_ratio FROM cmp_recipe WHERE recipe = 'q8_0'").fetchall() == [(1.5,)]
    assert inside("warehouse", "open", "--output", "-", folder=folder).out == (folder / "init.sql").read_text()
    assert inside("warehouse", "open", "--output", "no/where.sql", folder=folder).code == 2


def test_duckdb_s_own_command_line_is_started_with_the_views(folder: Path) -> None:
    command = [sys.executable, "-m", "fleetbench", "warehouse", "open", "--warehouse", "warehouse"]
    asked = ".mode csv\nSELECT recipe, output_tok_s FROM cells ORDER BY ALL;\n"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, input=asked, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    assert [line.strip() for line in done.stdout.splitlines()] == ["recipe,output_tok_s", "f16,100.0", "q8_0,150.0"]


def test_without_a_duckdb_command_it_says_how_to_have_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    said = inside("warehouse", "open", folder=folder)
    assert said.code == 4
    assert "pip install duckdb-cli" in said.err


def test_python_opens_the_views_and_gives_frames(folder: Path) -> None:
    with fleetbench.open(folder / "warehouse") as connection:
        frame = connection.sql("SELECT recipe, speedup_ratio FROM cmp_recipe ORDER BY ALL").df()
        assert frame.to_dict("list") == {"recipe": ["f16", "q8_0"], "speedup_ratio": [1.0, 1.5]}
        assert connection.execute("SELECT count(*) FROM cells").fetchone() == (2,)
        assert connection.execute("SELECT recipe FROM cells ORDER BY ALL").df()["recipe"].tolist() == ["f16", "q8_0"]
        assert connection.sql("SELECT 1 AS one").to_arrow_table().to_pydict() == {"one": [1]}
    with pytest.raises(InputError, match="there is no warehouse at"):
        fleetbench.open(str(folder / "none"))


@pytest.mark.parametrize("fetch", ["fetchall", "df", "fetchone"])
def test_a_page_that_is_damaged_costs_its_file_and_not_the_query(folder: Path, fetch: str) -> None:
    victim = min((folder / "warehouse/landing/requests").rglob("*.parquet"))
    with fleetbench.open(folder / "warehouse") as connection:
        os.truncate(victim, 200)  # after it was found whole
        connection.execute("SELECT DISTINCT trial_id FROM requests")
        assert len(getattr(connection, fetch)()) == 1
        assert connection.execute("SELECT count(*) FROM quarantined").fetchone() == (1,)


def test_importing_fleetbench_loads_nothing_heavy() -> None:
    code = "import fleetbench, sys; print({'duckdb', 'pyarrow', 'ray'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
