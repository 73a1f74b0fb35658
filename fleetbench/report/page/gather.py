"""Everything that a report is made of, from the warehouse: rows by dataset, and what was left out of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from fleetbench.report.chosen import choose
from fleetbench.report.drift import drift_panel
from fleetbench.report.filters import ALL, Filters
from fleetbench.report.page import evidence, quality
from fleetbench.report.page.cells import MOST_CELLS, speed_cells, thin
from fleetbench.report.page.labels import Part, recipe_order, with_names, with_panels
from fleetbench.report.page.parity import parity
from fleetbench.report.result import Row

_PLACE = (Part(name="model"), Part(name="engine"), Part(name="run"))
_OUT = Part(name="output_tok", suffix=" out")
_LOAD_COLUMNS = ("batch", "rate", "context_tok", "output_tok")
_LOAD = (Part(name="context_tok", suffix=" tokens in"), _OUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What a report is over.

    every_cell: all speed cells, for the words; datasets: rows by name, for figures and tables; left_out: where those
    are fewer than there are. recipes: all of them in order. drift: sentences, empty where no control was measured.
    unproven: a recipe may be called the best whatever its quality.
    """

    runs: Sequence[Row]
    filters: Filters
    every_cell: Sequence[Row]
    datasets: Mapping[str, Sequence[Row]]
    recipes: Sequence[str]
    left_out: Sequence[str] = ()
    drift: Sequence[str] = ()
    drifted: bool = False
    unproven: bool = False
    quarantined: Sequence[Row] = ()


def gather(
    connection: duckdb.DuckDBPyConnection,
    run_ids: Sequence[str],
    filters: Filters = ALL,
    *,
    most_cells: int = MOST_CELLS,
    unproven: bool = False,
) -> Gathered:
    """The rows of a report over these runs, as far as the filters have them.

    What is named best is among recipes whose quality is shown to hold, unless `unproven`, or nothing was judged.

    Raises:
        InputError: the filters hold for no cell.
    """
    runs = {"runs": list(run_ids)}
    choose(connection, runs, None, filters)
    ((judged,),) = connection.execute("SELECT count(quality_verdict) > 0 FROM chosen").fetchall()
    unproven = unproven or not judged
    connection.execute(f"SET VARIABLE unproven = {unproven}")
    every_cell = speed_cells(connection, runs)
    answers, divergence = quality.accuracy(connection, runs), quality.divergence(connection, runs)
    verdicts = parity(connection, runs)
    drift = drift_panel(connection, runs)
    order = recipe_order(every_cell, answers, divergence)
    thinned = thin(every_cell, most_cells)
    tables: dict[str, Sequence[Row]] = {
        "cells": _cells(thinned.rows),
        "accuracy": _of_category(answers),
        "parity": _of_category([row for row in verdicts if row["category"] != "all"]),
        "verdicts": with_names([row for row in verdicts if row["category"] == "all"]),
        "divergence": _of_model(divergence),
        "trade": _traded(quality.trade(every_cell, answers)),
        "coverage": _of_run(with_names(evidence.coverage(connection))),
        "failures": with_names(evidence.failures(connection, runs)),
        "refusals": with_names(evidence.refusals(connection)),
        "nodes": evidence.nodes(connection, runs),
        "engines": with_names(evidence.engines(connection, runs)),
        "prices": evidence.prices(connection),
        "within_slo": with_names(evidence.within_slo(connection, runs)),
    }
    left_out = [thinned.said] if thinned.said else []
    for name in ("failures", "refusals", "nodes", "engines", "within_slo"):
        tables[name], said = _first(tables[name], name)
        left_out += said
    runs_rows = evidence.runs_of(connection, runs)
    return Gathered(
        runs=runs_rows,
        filters=filters,
        every_cell=with_names(every_cell),
        datasets={name: _ordered(rows, order) for name, rows in tables.items()} | {"runs": runs_rows},
        recipes=tuple(order),
        left_out=tuple(left_out),
        drift=(drift.line,) if drift.result.rows and drift.line else (),
        drifted=drift.alarm,
        unproven=unproven,
        quarantined=evidence.quarantined(connection),
    )


def _cells(rows: Sequence[Row]) -> list[Row]:
    """With three headings: of the place, of what a Pareto front is over, and of the load, the commonest first."""
    named = with_panels(with_names(rows), Part(name="hardware"), (*_PLACE, _OUT), column="panel")
    named = with_panels(named, Part(name="model"), (*_LOAD, *_PLACE[1:]), column="subject")
    measured = [row for row in named if row["ttft_p50"] is not None or row["itl_p50"] is not None]
    common = Counter(_load_key(row) for row in measured)
    numbers = {key: number for number, key in enumerate(sorted(common, key=lambda key: (-common[key], key)))}
    for row in named:
        row["load"] = _load(row)
        row["load_at"] = numbers.get(_load_key(row), len(numbers)) * len(named) + _number(row["panel_at"])
    return named


def _load_key(row: Row) -> tuple[float, ...]:
    return tuple(float(value) if isinstance(value, int | float) else 0.0 for value in map(row.get, _LOAD_COLUMNS))


def _load(row: Row) -> str:
    asked = "load not said"
    if row["batch"] is not None:
        asked = f"batch {row['batch']}"
    elif row["rate"] is not None:
        asked = f"{row['rate']:g} requests/s"
    return f"{asked}, {row['context_tok']:,} tokens in" if row["context_tok"] is not None else asked


def _of_category(rows: Sequence[Row]) -> list[Row]:
    return with_panels(with_names(rows), Part(name="category"), (*_PLACE, Part(name="hardware")), column="panel")


def _of_model(rows: Sequence[Row]) -> list[Row]:
    return with_panels(with_names(rows), Part(name="model"), (Part(name="suite"), *_PLACE[1:]), column="panel")


def _traded(rows: Sequence[Row]) -> list[Row]:
    """Panels by the pair of models: of which the speed is, and of which the answers."""
    named = with_names(rows)
    for row in named:
        answers = f"answers of {row['quality_model']}, {row['suite']}"
        row["pair"] = answers if row["quality_model"] == row["model"] else f"speed of {row['model']}, {answers}"
    return with_panels(named, Part(name="hardware"), (Part(name="pair"), *_PLACE[1:]), column="panel")


def _of_run(rows: Sequence[Row]) -> list[Row]:
    return with_panels(rows, Part(name="run"), (), column="panel")


def _ordered(rows: Sequence[Row], order: Mapping[str, int]) -> list[Row]:
    return [{**row, "at": order.get(str(row["recipe"]))} if "recipe" in row else row for row in rows]


def _first(rows: Sequence[Row], name: str) -> tuple[Sequence[Row], list[str]]:
    most = evidence.MOST_GROUPS
    if len(rows) <= most:
        return rows, []
    return rows[:most], [
        f"Of {len(rows):,} rows of {name.replace('_', ' ')} the first {most} are here: `fleetbench sql` has them all."
    ]


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
