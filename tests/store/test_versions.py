"""Files of another version of the schema: an older one is read, a later one is refused whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleetbench.errors import InputError
from fleetbench.matrix.identity import digest
from fleetbench.store import layout, parquet
from fleetbench.store.commit import Warehouse
from fleetbench.store.compact import compact
from fleetbench.store.connection import connect
from fleetbench.store.schema import FORMER, SCHEMAS, VERSION, schema_of
from fleetbench.store.verify import verify
from tests.samples import Lab, run_row

NEW = {"origin", "source", "source_sha256", "licence", "unmapped"}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(Warehouse(tmp_path / "data"))
    made.warehouse.create()
    return made


def write_v1(root: Path, **changes: Any) -> Path:
    """A submission as fleetbench wrote it before it could import."""
    row = {name: value for name, value in run_row(**changes).items() if name not in NEW}
    path = root / "landing" / "runs" / str(row["run_id"]) / "run.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row], schema=FORMER[1]["runs"]), path)
    return path


def origins(root: Path) -> list[Any]:
    with connect(root) as connection:
        return connection.execute("SELECT run_id, origin, submitted_at FROM runs_all ORDER BY ALL").fetchall()


def test_a_run_of_version_1_was_measured_by_fleetbench(lab: Lab) -> None:
    write_v1(lab.warehouse.root)
    lab.run(run_id="run2", origin="vllm", source="result.json", source_sha256="0" * 64, licence="not said")
    at = run_row()["submitted_at"].replace(tzinfo=None)
    wanted = [("run1", "fleetbench", at), ("run2", "vllm", at)]
    assert origins(lab.warehouse.root) == wanted
    assert verify(lab.warehouse.root).findings == ()
    compact(lab.warehouse.root)
    compact(lab.warehouse.root, grace_s=-1)
    assert origins(lab.warehouse.root) == wanted
    assert not list(lab.warehouse.root.glob("landing/*/*/*"))


def test_what_lacks_a_column_that_version_1_had_is_quarantined(lab: Lab) -> None:
    path = write_v1(lab.warehouse.root)
    pq.write_table(pq.read_table(path).drop_columns(["cells"]), path)
    with connect(lab.warehouse.root) as connection:
        assert connection.execute("SELECT reason FROM quarantined").fetchall() == [("column cells is missing",)]


def later(path: Path) -> None:
    table = pq.read_table(path)
    said = {**table.schema.metadata, b"fleetbench.schema": b"%d" % (VERSION + 1), b"fleetbench.version": b"9.9.9"}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(said), sink)
    data = bytes(sink.getvalue())
    path.unlink()
    named = layout.landed_name(layout.name_of(path), hashlib.sha256(data).hexdigest())
    path.with_name(named).write_bytes(data)


@pytest.mark.parametrize("table", ["trials", "requests"])
def test_a_warehouse_with_a_later_file_is_refused_with_the_version_that_it_needs(lab: Lab, table: str) -> None:
    lab.run()
    lab.speed("f16", 1.0)
    (path,) = lab.warehouse.root.glob(f"landing/{table}/run1/*")
    later(path)
    for act in (connect, compact, verify):
        with pytest.raises(InputError, match=r"version 3 .*fleetbench 9\.9\.9.*install fleetbench 9\.9\.9 or later"):
            act(lab.warehouse.root)
    if table == "trials":
        with pytest.raises(InputError, match="install fleetbench"):
            lab.warehouse.committed("run1")


def test_a_later_manifest_is_refused_too(lab: Lab) -> None:
    lab.run()
    compact(lab.warehouse.root)
    path = max(lab.warehouse.root.glob("manifest/*"))
    said = json.loads(path.read_text()) | {"schema": VERSION + 1, "fleetbench": "9.9.9"}
    del said["sha256"]
    path.write_text(json.dumps(said | {"sha256": digest(said)}))
    with pytest.raises(InputError, match="install fleetbench 9"):
        connect(lab.warehouse.root)


def test_a_flipped_version_is_damage_and_no_later_fleetbench(lab: Lab) -> None:
    lab.run()
    compact(lab.warehouse.root)
    path = max(lab.warehouse.root.glob("manifest/*"))
    path.write_text(path.read_text().replace(f'"schema": {VERSION}', f'"schema": {VERSION + 1}'))
    lab.run()
    (landed,) = (one for one in lab.warehouse.root.glob("landing/runs/run1/*") if one.name.startswith("submission-2"))
    landed.write_bytes(landed.read_bytes().replace(b"fleetbench.schema\x18\x012", b"fleetbench.schema\x18\x013"))
    with connect(lab.warehouse.root) as connection:
        reasons = [reason for (reason,) in connection.execute("SELECT reason FROM quarantined").fetchall()]
    assert reasons[0].startswith("not as it was written")
    assert "its content differs from what was written" in reasons[1]


def test_every_file_says_its_version(lab: Lab) -> None:
    path = lab.warehouse.commit("runs", [run_row()], run_id="run1", name="run")
    assert pq.read_schema(path).metadata[b"fleetbench.schema"] == str(VERSION).encode()
    assert parquet.inspect(path, "runs") == parquet.Footer(exact=True, version=VERSION)


def test_each_former_version_has_its_sql_and_differs() -> None:
    for version, tables in FORMER.items():
        for table, schema in tables.items():
            assert not schema.equals(SCHEMAS[table])
            assert schema_of(table, version).equals(schema)
    assert schema_of("trials", 1).equals(SCHEMAS["trials"])
