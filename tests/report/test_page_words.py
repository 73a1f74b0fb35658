"""What a report calls the fastest, and what it does not."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from fleetbench.report.page.gather import Gathered, gather
from fleetbench.report.page.html import Made, html
from fleetbench.report.page.words import words
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from fleetbench.store.foreign import registry
from fleetbench.store.foreign.landing import import_file
from fleetbench.store.foreign.record import ForeignError
from fleetbench.store.verdicts import judge_run, keep
from tests.samples import Lab
from tests.store.foreign.files import DATA
from tests.store.test_verdicts import PARITY, ask


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(Warehouse(tmp_path))
    made.warehouse.create()
    made.run(matrix_json=json.dumps({"parity": PARITY}))
    return made


def speeds(lab: Lab, recipe: str, *tok_s: float, **axes: Any) -> None:
    for repeat, rate in enumerate(tok_s):
        lab.speed(recipe, rate, repeat=repeat, **axes)


def gathered(lab: Lab, *, unproven: bool = False) -> Gathered:
    with connect(lab.warehouse.root) as connection:
        return gather(connection, ["run1"], unproven=unproven)


def found(lab: Lab, *, unproven: bool = False) -> str:
    return " ".join(words(gathered(lab, unproven=unproven)).found)


def test_a_recipe_whose_trials_are_all_above_anothers_is_the_fastest(lab: Lab) -> None:
    speeds(lab, "f16", 100.0, 101.0)
    speeds(lab, "q8_0", 150.0, 151.0)
    speeds(lab, "q4_k", 200.0, 204.0)
    assert "q4_k is the fastest, with 2.01 times the tok/s of f16 (geometric mean of 1 load;" in found(lab)


def test_recipes_whose_trials_overlap_are_not_told_apart(lab: Lab) -> None:
    speeds(lab, "f16", 100.0, 101.0)
    speeds(lab, "q8_0", 190.0, 206.0)
    speeds(lab, "q4_k", 200.0, 204.0)
    assert "q4_k and q8_0 are the fastest, and not told apart (their trials overlap)" in found(lab)


def test_one_trial_tells_nothing_apart(lab: Lab) -> None:
    for recipe, rate in (("f16", 100.0), ("q8_0", 150.0), ("q4_k", 200.0)):
        speeds(lab, recipe, rate)
    assert "q4_k and q8_0 are the fastest, and not told apart (of one trial no spread is known)" in found(lab)


def test_only_loads_that_all_recipes_have_count(lab: Lab) -> None:
    for batch in (1, 2):
        speeds(lab, "f16", 100.0, 101.0, batch=batch)
        speeds(lab, "q8_0", 150.0, 151.0, batch=batch)
    speeds(lab, "q4_k", 120.0, 121.0, batch=1)
    assert "q8_0 is the fastest, with 1.50 times the tok/s of f16 (geometric mean of 1 load of 2;" in found(lab)


def test_a_machine_that_drifted_has_no_fastest_recipe(lab: Lab) -> None:
    speeds(lab, "f16", 100.0, 101.0)
    speeds(lab, "q4_k", 200.0, 204.0)
    lab.speed("f16", 60.0, role="control")
    assert found(lab).startswith("No recipe is called the fastest: the machine's own speed changed")


def test_a_recipe_that_did_not_pass_is_no_best_unless_asked_for(lab: Lab) -> None:
    for recipe, wrong in (("f16", 0), ("q8_0", 0), ("q2_k", 60)):
        for repeat in range(2 if recipe == "f16" else 1):
            ask(lab, recipe, wrong=wrong, repeat=repeat)
    speeds(lab, "f16", 100.0, 101.0)
    speeds(lab, "q8_0", 150.0, 151.0)
    speeds(lab, "q2_k", 300.0, 301.0)
    with connect(lab.warehouse.root) as connection:
        keep(lab.warehouse, connection, "run1", judge_run(connection, "run1"))
    assert "q8_0 has 1.50 times" in found(lab)
    assert "q2_k" not in found(lab)
    assert "q2_k is the fastest" in found(lab, unproven=True)
    caveats = " ".join(words(gathered(lab)).caveats)
    assert (
        "Not called the best anywhere, for quality is not shown to hold: q2_k (BLOCK); --unproven lets them." in caveats
    )
    ships = {row["recipe"]: row["ships"] for row in gathered(lab).datasets["cells"]}
    assert ships == {"f16": True, "q8_0": True, "q2_k": False}


def test_where_nothing_was_judged_speed_alone_decides_and_that_is_said(lab: Lab) -> None:
    speeds(lab, "f16", 100.0, 101.0)
    speeds(lab, "q4_k", 200.0, 204.0)
    assert "q4_k has" in found(lab)
    assert any(caveat.startswith("Quality is not judged") for caveat in words(gathered(lab)).caveats)


@pytest.mark.parametrize("origin", sorted(path.name for path in DATA.iterdir() if path.is_dir()))
def test_imported_results_of_every_format_have_a_page(tmp_path: Path, origin: str) -> None:
    warehouse = Warehouse(tmp_path)
    warehouse.create()
    made = Made(version="0.1.0", at=dt.datetime(2026, 12, 1, tzinfo=dt.UTC), warehouse="here")
    landed = set()
    for file in sorted(path for path in (DATA / origin).rglob("*") if path.is_file()):
        try:
            landed.add(import_file(file, registry.reader(origin), warehouse).run_id)
        except ForeignError:  # a file beside results: a log, a README
            continue
    assert landed
    with connect(tmp_path) as connection:
        page = html(gather(connection, sorted(landed)), made)
    assert "</html>" in page
