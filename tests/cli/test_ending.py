"""What the user of a run that did not end well is told to do."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from fleetbench.cli.ending import how_to_begin, how_to_go_on
from fleetbench.cli.wish import Wish
from fleetbench.matrix.types import Outcome
from fleetbench.plan.types import Refusal, Verdict
from tests.small import planned

WISH = Wish(
    matrix=Path("a matrix.yaml"),
    run="default",
    new=False,
    retry_failed=False,
    only="recipe = 'q4_k'",
    first=None,
    address=None,
    token=None,
    detach=False,
    wait_s=900,
    warehouse=Path("data"),
)
HERE = "fleetbench submit 'a matrix.yaml' --run default --warehouse data --only"


def test_failures_are_counted_by_outcome_with_the_command_that_runs_them_again() -> None:
    said = how_to_go_on([Outcome.OK, Outcome.OOM, Outcome.LAUNCH_FAILED, Outcome.LAUNCH_FAILED], WISH)
    assert said is not None
    count, again, command = said.splitlines()
    assert count == "3 of 4 trials did not end well: 2 launch_failed, 1 oom."
    assert again == "Run them again with"
    assert shlex.split(command) == [
        *("fleetbench", "submit", "a matrix.yaml", "--run", "default", "--warehouse", "data"),
        *("--only", "recipe = 'q4_k'", "--wait-for-nodes", "900s", "--retry-failed"),
    ]


def test_where_all_went_well_nothing_is_to_be_done() -> None:
    assert how_to_go_on([Outcome.OK, Outcome.OK], WISH) is None


def test_what_was_only_cancelled_or_lost_runs_again_without_being_asked() -> None:
    said = how_to_go_on([Outcome.LOST, Outcome.CANCELLED, None], WISH)
    assert said is not None
    assert "--retry-failed" not in said
    assert "1 not tried" in said


def test_a_job_leaves_the_command_to_who_sent_it() -> None:
    said = how_to_go_on([Outcome.OOM], replace(WISH, address="auto"))
    assert said == "1 of 1 trials did not end well: 1 oom."


@pytest.mark.parametrize(
    ("verdict", "rule", "address", "step"),
    [
        ("not_here", "no-node", None, "name its head by --address HOST:PORT"),
        ("not_here", "no-node", "head:6379", "fleetbench node up --address head:6379"),
        ("not_here", "engine-not-here", None, "fleetbench doctor"),
        ("excluded", "excluded", None, "exclude:"),
        ("engine_cannot", "kv", None, "fleetbench plan 'a matrix.yaml'"),
    ],
)
def test_where_every_cell_is_refused_each_kind_of_refusal_has_its_step(
    verdict: Verdict, rule: str, address: str | None, step: str, tmp_path: Path
) -> None:
    cell = planned(tmp_path).plan.cells[0]
    refusal = Refusal(cell=cell, verdict=verdict, rule=rule, sentence="because", source="a test")
    said = how_to_begin([refusal, refusal], replace(WISH, address=address))
    first, *steps = said.splitlines()
    assert first == "Nothing was run. What to do:"
    assert step in " ".join(" ".join(steps).split())
    assert sum(line.startswith("  - ") for line in steps) == 1
    assert max(len(line) for line in steps) <= 80
