"""Grouping cells into engine launches, and their order."""

from __future__ import annotations

from fleetbench.matrix.types import Cell, KvFormat, Recipe
from fleetbench.plan.launches import keep, make_plan, missing
from fleetbench.plan.types import QUALITY_TOK, Plan, Refusal, Ruling
from fleetbench_collectors.quality import suite
from tests.plan.examples import cell, matrix, quality_cell


def plan(cells: list[Cell], *, repeats: int = 2, refuse: str = "") -> Plan:
    def rule(one: Cell) -> Ruling | Refusal:
        if one.recipe.name == refuse:
            return Refusal(cell=one, verdict="engine_cannot", rule="test", sentence="no", source="a test")
        return Ruling(verdict="native", kernel="ggml")

    return make_plan(run_id="r", run="default", matrix=matrix(repeats=repeats), cells=cells, refused=(), rule=rule)


def grid(*names: str) -> list[Cell]:
    return [cell(name, batch=batch, context=context) for name in names for batch in (1, 4) for context in (64, 256)]


def test_one_launch_per_recipe_serves_all_its_load_points() -> None:
    made = plan(grid("q8_0", "f16"))
    assert [(launch.recipe.name, launch.role, len(launch.trials)) for launch in made.launches] == [
        ("f16", "measure", 8),
        ("q8_0", "measure", 8),
        ("f16", "control", 2),
    ]


def test_the_reference_runs_first_and_once_more_at_the_end() -> None:
    made = plan(grid("q2_k", "f16", "q8_0"))
    assert [launch.recipe.name for launch in made.launches] == ["f16", "q2_k", "q8_0", "f16"]
    assert made.launches[-1].role == "control"


def test_a_control_measures_the_smallest_batch_only_and_has_trials_of_its_own() -> None:
    made = plan(grid("f16"))
    control = made.launches[-1]
    assert {getattr(trial.cell.work, "batch", None) for trial in control.trials} == {1}
    assert not {trial.trial_id for trial in control.trials} & {trial.trial_id for trial in made.launches[0].trials}


def test_repeats_go_round_robin_over_the_load_points() -> None:
    made = plan(grid("f16"))
    assert [trial.repeat for trial in made.launches[0].trials] == [0] * 4 + [1] * 4


def test_quality_runs_once_whatever_the_repeats_and_of_the_reference_twice() -> None:
    made = plan([quality_cell("f16"), quality_cell("q4_k")], repeats=5)
    assert {launch.recipe.name: len(launch.trials) for launch in made.launches} == {"f16": 2, "q4_k": 1}
    assert [trial.repeat for trial in made.launches[0].trials] == [0, 1]


def test_an_engine_has_slots_and_room_for_its_largest_load_point() -> None:
    launch = plan(grid("f16")).launches[0]
    assert (launch.slots, launch.slot_tok) == (4, 256 + 32)


def test_a_quality_launch_has_room_for_what_the_suite_asks() -> None:
    assert QUALITY_TOK == suite.CONTEXT_TOK


def test_recipes_that_differ_only_in_the_cache_do_not_share_an_engine() -> None:
    plain = cell("f16")
    kv8 = cell(recipe=Recipe(name="kv8", weights="f16", kv=KvFormat(k="q8_0", v="q8_0")))
    launches = plan([plain, kv8]).launches
    assert len({launch.launch_id for launch in launches}) == len(launches) == 3


def test_a_refused_cell_is_in_no_launch() -> None:
    made = plan(grid("f16", "q8_0"), refuse="q8_0")
    assert {launch.recipe.name for launch in made.launches} == {"f16"}
    assert len(made.refusals) == 4


def test_resuming_leaves_out_what_is_settled() -> None:
    made = plan(grid("f16"))
    done = {trial.trial_id for trial in made.launches[0].trials[:3]}
    rest = missing(made, done)
    assert len(rest.trials) == len(made.trials) - 3
    assert missing(made, {trial.trial_id for trial in made.trials}).launches == ()


def test_keeping_one_cell_keeps_its_repeats() -> None:
    made = plan(grid("q8_0"))
    wanted = made.trials[0].cell.cell_id
    assert [trial.repeat for trial in keep(made, lambda trial: trial.cell.cell_id == wanted).trials] == [0, 1]
