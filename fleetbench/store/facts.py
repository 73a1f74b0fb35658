"""What is known beside the measurements, as tables that the SQL joins: prices out of the catalog."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

from fleetbench.catalog.lookup import aliases, gpu_info

PRICES = "prices"
Price = tuple[str, float | None, str | None, str | None]


def add(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table `prices`: of one device for an hour, by every name of its kind; NULL where none is known.

    Raises:
        InputError: a file of the catalog, or of the user's own, is wrong.
    """
    connection.execute(
        "CREATE TABLE prices AS SELECT CAST(unnest(?) AS VARCHAR) AS hardware, CAST(unnest(?) AS DOUBLE) AS"
        " usd_per_hour, CAST(unnest(?) AS VARCHAR) AS source, TRY_CAST(unnest(?) AS DATE) AS date",
        [list(column) for column in zip(*_prices(), strict=True)],
    )


def _prices() -> Iterator[Price]:
    for name in aliases("gpus"):
        info = gpu_info(name)
        price = info.price_usd_h if info else None
        if price is None:
            yield name, None, None, None
        else:
            yield name, price.value, price.source, price.date
