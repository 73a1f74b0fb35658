"""Rows of an older version of the schema in today's columns, by the SQL in warehouse/staging/v<version>/."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from fleetbench import resources
from fleetbench.store.rows import conform
from fleetbench.store.schema import FORMER, SCHEMAS, VERSION


def older(table: str) -> list[int]:
    """The versions in which a table meant something else than today."""
    return [version for version in range(1, VERSION) if table in FORMER.get(version, {})]


def today(table: str, rows: pa.Table, version: int) -> pa.Table:
    """What was written in a version, as today's schema says.

    Args:
        table: whose rows they are.
        rows: as the schema of that version says.
        version: of the warehouse's schema.
    """
    for former in older(table):
        if former >= version:
            rows = _next(table, former, rows)
    return rows if rows.schema.equals(SCHEMAS[table]) else conform(table, rows)


def _next(table: str, version: int, rows: pa.Table) -> pa.Table:
    sql = resources.root("warehouse") / "staging" / f"v{version}" / f"{table}.sql"
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE SCHEMA landed")
        connection.register("older_rows", rows)
        connection.execute(f"CREATE VIEW landed.{table}_v{version} AS SELECT * FROM older_rows")  # noqa: S608 - our own names
        return connection.sql(sql.read_text(encoding="utf-8")).to_arrow_table()
