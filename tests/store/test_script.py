from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from fleetbench.errors import InputError
from fleetbench.store.commit import Warehouse
from fleetbench.store.compact import compact
from fleetbench.store.connection import connect
from fleetbench.store.script import script
from fleetbench.store.views import definitions
from tests.samples import Lab
from tests.store.test_versions import write_v1


def test_a_plain_duckdb_sees_every_view_as_ours_does(tmp_path: Path) -> None:
    lab = Lab(Warehouse(tmp_path / "it's [a] folder"))
    lab.warehouse.create()
    lab.run()
    write_v1(lab.warehouse.root, run_id="old")
    lab.speed("f16", 100.0)
    compact(lab.warehouse.root)
    lab.speed("q8_0", 120.0)
    write_v1(lab.warehouse.root, run_id="older")
    (lab.warehouse.root / "landing/trials/run1/cut.parquet").write_bytes(b"PAR1")
    plain = duckdb.connect(":memory:")
    plain.execute(script(lab.warehouse.root))
    with connect(lab.warehouse.root) as ours:
        for view in [*definitions(), "prices", "quarantined"]:
            asked = f'SELECT * FROM "{view}" ORDER BY ALL'  # noqa: S608 - our own names
            assert plain.execute(asked).fetchall() == ours.execute(asked).fetchall(), view
        assert len(ours.execute("SELECT * FROM cells").fetchall()) == 2
        assert len(ours.execute("SELECT * FROM runs").fetchall()) == 3


def test_an_empty_warehouse_has_a_script_and_a_missing_one_has_none(tmp_path: Path) -> None:
    plain = duckdb.connect(":memory:")
    plain.execute(script(tmp_path))
    assert plain.execute("SELECT count(*) FROM cells").fetchall() == [(0,)]
    with pytest.raises(InputError, match="there is no warehouse"):
        script(tmp_path / "none")
