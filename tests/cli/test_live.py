"""What a run says on stderr while it goes on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

from fleetbench.cli.live import RunView
from fleetbench.fleet.control.status import RunStatus
from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import Event, Record
from fleetbench.plan.types import Plan, Refusal, Trial
from tests.small import planned

STATUS = RunStatus(
    run_id="run1", run="default", matrix="small", state="running", host="here", pid=1, address=None, submitted_s=0.0,
    updated_s=0.0, trials=1, outcomes={}, waiting=1,
)  # fmt: skip


def said(plan: Plan, happened: Sequence[Event | Record | RunStatus], *, introduce: bool = False) -> list[str]:
    """The lines of a view that hears this, where stderr is no terminal."""
    with redirect_stderr(io.StringIO()) as heard, RunView(plan, plan, {}, settled=0) as view:
        if introduce:
            view.introduce()
        for one in happened:
            if isinstance(one, RunStatus):
                view.tell(one)
            else:
                view.watch(one)
    return heard.getvalue().splitlines()


def ended(plan: Plan, trial: Trial, outcome: Outcome, reason: str) -> Record:
    launch = next(launch for launch in plan.launches if trial in launch.trials)
    return Record(launch=launch, attempt=0, trial=trial, tries=0, outcome=outcome, reason=reason)


def test_trials_that_are_cancelled_alike_are_one_line_with_their_count(tmp_path: Path) -> None:
    plan = planned(tmp_path).plan
    first, *others = plan.trials
    records = [ended(plan, trial, Outcome.CANCELLED, "no node came") for trial in others]
    lines = said(plan, [*records, ended(plan, first, Outcome.OOM, "no memory\nat all")])
    assert lines == [
        f"  cancelled {len(others)} trials of tiny f16, tiny q2_k: no node came",
        "  oom tiny f16 batch 1 context 16 repeat 1: no memory",
    ]


def test_what_went_wrong_is_said_within_the_next_look_at_the_run(tmp_path: Path) -> None:
    plan = planned(tmp_path).plan
    records = [ended(plan, trial, Outcome.LOST, "its node is gone") for trial in plan.trials[:2]]
    lines = said(plan, [records[0], STATUS, records[1], STATUS])
    assert len(lines) == 2


def test_why_a_kind_waits_is_said_once_however_many_launches_do(tmp_path: Path) -> None:
    plan = planned(tmp_path).plan
    waits = [f"{count} wait: no node of kind h100 is in the fleet" for count in ("3 launches", "2 launches")]
    lines = said(plan, [replace(STATUS, blocked={"h100": why}) for why in (*waits, "1 launch waits: another reason")])
    assert lines == [f"blocked h100: {waits[0]}", "blocked h100: 1 launch waits: another reason"]


def test_where_every_cell_is_refused_it_says_so_first_with_the_reasons_counted(tmp_path: Path) -> None:
    plan = planned(tmp_path).plan
    refusals = tuple(
        Refusal(cell=cell, verdict="not_here", rule="no-node", sentence="no such node", source="a test")
        for cell in plan.cells
    )
    lines = said(replace(plan, launches=(), refusals=refusals), [], introduce=True)
    assert lines == [
        f"small (run default): nothing can run, all {len(refusals)} cells are refused:",
        f"    {len(refusals)} by no-node: no such node",
    ]
