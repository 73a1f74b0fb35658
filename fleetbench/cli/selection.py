"""`--only`: cells of a plan by an SQL expression over their axes."""

from __future__ import annotations

from fleetbench.errors import InputError
from fleetbench.fleet.rows import axes, work
from fleetbench.plan.types import Plan


def matching_cells(plan: Plan, expression: str) -> frozenset[str]:
    """The cell_ids for which the expression holds.

    Raises:
        InputError: the expression is no SQL over the axes, or nothing matches it.
    """
    import duckdb
    import pyarrow as pa

    rows = [{"cell_id": cell.cell_id, "kind": cell.kind, **axes(cell), **work(cell)} for cell in plan.cells]
    if not rows:
        return frozenset()
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET enable_external_access = false")
        connection.register("cells", pa.Table.from_pylist(rows))
        try:
            # filter() takes one expression: what ends it, or begins another statement, is a mistake.
            found = connection.table("cells").filter(expression).project("cell_id").fetchall()
        except duckdb.Error as error:
            names = ", ".join(name for name in rows[0] if name != "cell_id")
            first = str(error).strip().splitlines()[0]
            raise InputError((f"--only {expression!r}: {first}", f"it can use the columns {names}")) from error
    if not found:
        raise InputError((f"--only {expression!r}: none of the {len(rows)} cells matches",))
    return frozenset(cell_id for (cell_id,) in found)
