"""fleetbench: benchmark LLM inference across a GPU fleet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

__version__ = "0.1.0"


def open(warehouse: str | os.PathLike[str]) -> duckdb.DuckDBPyConnection:  # noqa: A001 - fleetbench.open(...)
    """Open a warehouse: a DuckDB database in memory with every view over its files as they are now.

    From there to pandas by `.df()`, to Polars by `.pl()`, to Arrow by `.arrow()`:

        fleetbench.open("fleetbench-data").sql("SELECT * FROM cells").df()

    Args:
        warehouse: the folder of the results, or s3://BUCKET/PREFIX.

    Raises:
        fleetbench.errors.InputError: there is no such folder or bucket, or a later fleetbench wrote to it.
        fleetbench.errors.UnusableEnvironmentError: the bucket cannot be read.
    """
    from fleetbench.store.connection import connect  # noqa: PLC0415
    from fleetbench.store.mirror import local  # noqa: PLC0415 - DuckDB and Arrow are loaded when they are asked for
    from fleetbench.store.url import parsed  # noqa: PLC0415

    return connect(local(parsed(os.fspath(warehouse))))
