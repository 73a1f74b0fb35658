"""Quantiles over any grouping, out of sketches: against numpy, and against the collector's own merge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench.store.views import macros
from fleetbench_collectors import sketch, tables

ACCURACY = sketch.ACCURACY * 1.0001
"""That of the sketch, and what floats lose."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}

Trial = tuple[str, Sequence[float] | None]


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as made:
        for sql in macros().values():
            made.execute(sql)
        yield made


def merged(connection: duckdb.DuckDBPyConnection, macro: str, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    rows = [None if values is None else sketch.build(np.array(values)).row() for _, values in trials]
    of_trials = pa.table(
        {"recipe": pa.array([recipe for recipe, _ in trials], pa.string()), "sketch": pa.array(rows, tables.SKETCH)}
    )
    connection.register("of_trials", of_trials)
    found = connection.sql(f"WITH mine AS (FROM of_trials) FROM {macro}(mine) ORDER BY ALL")
    return list(found.to_arrow_table().to_pylist())


def rank(values: Sequence[float], q: float) -> float:
    return float(np.sort(values)[math.floor(q * (len(values) - 1))])


VALUES = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e6)), max_size=40)


@settings(max_examples=40, deadline=None)
@given(trials=st.lists(st.tuples(st.sampled_from("ab"), VALUES), min_size=1, max_size=8))
def test_merged_quantiles_are_within_one_percent_of_those_of_all_values(
    connection: duckdb.DuckDBPyConnection, trials: list[Trial]
) -> None:
    pooled: dict[str, list[float]] = {}
    for recipe, values in trials:
        pooled.setdefault(recipe, []).extend(values or ())
    found = {row["recipe"]: row for row in merged(connection, "merged_quantiles", trials)}
    assert found.keys() == {recipe for recipe, values in pooled.items() if values}
    for name_of, row in found.items():
        recipe = str(name_of)
        assert row["n"] == len(pooled[recipe])
        for name, q in QUANTILES.items():
            assert row[name] == pytest.approx(rank(pooled[recipe], q), rel=ACCURACY), (recipe, name)


def test_a_distribution_like_real_latencies_is_within_one_percent(connection: duckdb.DuckDBPyConnection) -> None:
    random = np.random.default_rng(7)
    parts = [random.lognormal(mean, 0.4, 5000) for mean in (1.0, 1.5, 3.0)]
    (row,) = merged(connection, "merged_quantiles", [("a", part.tolist()) for part in parts])
    for name, q in QUANTILES.items():
        exact = float(np.quantile(np.concatenate(parts), q, method="lower"))
        assert row[name] == pytest.approx(exact, rel=ACCURACY), name


def test_merged_bins_are_those_of_the_collectors_merge(connection: duckdb.DuckDBPyConnection) -> None:
    left, right = [0.0, 0.0, 1.0, 5.0, 5.0], [0.0, 5.0, 900.0]
    whole = sketch.merge(sketch.build(np.array(left)), sketch.build(np.array(right)))
    rows = merged(connection, "merged_bins", [("a", left), ("a", right)])
    wanted: dict[int | None, int] = {None: whole.zero, **dict(zip(whole.bins, whole.counts, strict=True))}
    assert {row["bin"]: row["n"] for row in rows} == wanted
    assert [row["value"] for row in rows if row["bin"] is None] == [0.0]


def test_a_trial_without_a_sketch_is_left_out_and_an_unknown_group_is_one(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    of_trials = pa.table(
        {
            "recipe": pa.array([None, None, "b"], pa.string()),
            "sketch": pa.array([sketch.build(np.array([2.0])).row()] * 2 + [None], tables.SKETCH),
        }
    )
    connection.register("of_trials", of_trials)
    rows = connection.sql("WITH mine AS (FROM of_trials) SELECT recipe, n FROM merged_quantiles(mine)").fetchall()
    assert rows == [(None, 2)]


def test_all_trials_are_one_group_where_no_column_is_given(connection: duckdb.DuckDBPyConnection) -> None:
    of_trials = pa.table({"sketch": pa.array([sketch.build(np.array([2.0, 8.0])).row()] * 3, tables.SKETCH)})
    connection.register("of_trials", of_trials)
    (row,) = connection.sql("WITH mine AS (FROM of_trials) SELECT n, p99 FROM merged_quantiles(mine)").fetchall()
    assert row == (6, pytest.approx(8.0, rel=ACCURACY))


def test_sketches_of_another_accuracy_do_not_merge(connection: duckdb.DuckDBPyConnection) -> None:
    one = sketch.build(np.array([2.0])).row()
    of_trials = pa.table({"sketch": pa.array([one, {**one, "gamma": 1.5}], tables.SKETCH)})
    connection.register("of_trials", of_trials)
    with pytest.raises(duckdb.Error, match="different accuracy"):
        connection.sql("WITH mine AS (FROM of_trials) FROM merged_quantiles(mine)").fetchall()


def test_aggregates_leave_out_what_is_missing(connection: duckdb.DuckDBPyConnection) -> None:
    asked = """
        SELECT geomean(x), geometric_sd(x), spread_ratio(x), pooled_mean(x, n), left_out(why)
        FROM (VALUES (2.0, 1, 'b'), (8.0, 3, 'a'), (NULL, 9, 'b'), (NULL, NULL, NULL)) AS t (x, n, why)
    """
    (row,) = connection.sql(asked).fetchall()
    assert row[:4] == (
        pytest.approx(4.0),
        pytest.approx(math.exp(np.std(np.log([2.0, 8.0]), ddof=1))),
        pytest.approx(6 / 5),
        pytest.approx((2 * 1 + 8 * 3) / 4),
    )
    assert row[4] == "a (1); b (2)"
    (row,) = connection.sql(
        "SELECT geomean(x), spread_ratio(x), left_out(why) FROM (SELECT 0.0 AS x, NULL AS why)"
    ).fetchall()
    assert row == (None, None, None)


def test_trials_without_a_sketch_are_left_out_and_are_no_error(connection: duckdb.DuckDBPyConnection) -> None:
    assert merged(connection, "merged_quantiles", [("a", None), ("b", None)]) == []
    (row,) = merged(connection, "merged_quantiles", [("a", None), ("a", [5.0]), ("b", None)])
    assert (row["recipe"], row["n"]) == ("a", 1)
