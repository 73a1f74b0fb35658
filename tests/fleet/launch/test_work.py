"""One launch on this machine, with the real engine, and what it comes to when things break."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from fleetbench.engine.lease import holders
from fleetbench.fleet.launch.courier import Handed
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.fleet.launch.work import run_launch
from fleetbench.fleet.planning import plan_here
from fleetbench.fleet.submission import record_plan
from fleetbench.judge.parity.gate import gate
from fleetbench.judge.parity.verdict import Verdict
from fleetbench.matrix.types import Effort, Limits, Outcome, Warmup
from fleetbench.plan.events import LaunchEnded, LaunchEvent, SessionUp, TrialEnded, TrialStarted
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from fleetbench.store.verdicts import Judged, judge_run
from tests.small import job_of, planned, write_matrix

pytestmark = pytest.mark.engine


@pytest.fixture
def job(tmp_path: Path, artifact_cache: Path) -> LaunchJob:
    """The launch of the reference recipe: two load points and the quality suite."""
    plan = planned(tmp_path)
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.create()
    return job_of(plan, plan.plan.launches[0], warehouse=warehouse.root, cache=artifact_cache)


def leased(job: LaunchJob) -> list[int]:
    """Processes that carry a lease of this launch."""
    return [holder.pid for holder in holders() if job.launch.launch_id in holder.lease]


def kept(job: LaunchJob) -> Path:
    """Where the launch commits."""
    assert job.warehouse is not None
    return job.warehouse


def outcomes(events: list[LaunchEvent | Handed]) -> list[Outcome]:
    return [event.outcome for event in events if isinstance(event, TrialEnded)]


def column(job: LaunchJob, sql: str) -> list[object]:
    with connect(kept(job)) as connection:
        return [value for (value,) in connection.execute(sql).fetchall()]


def test_a_launch_measures_every_trial_and_commits_it(job: LaunchJob) -> None:
    events = list(run_launch(job))
    assert isinstance(events[0], SessionUp)
    assert outcomes(events) == [Outcome.OK] * 4
    last = events[-1]
    assert isinstance(last, LaunchEnded)
    assert last.outcome is Outcome.OK
    assert {trial.outcome for trial in Warehouse(kept(job)).committed(job.run_id)} == {Outcome.OK}
    assert leased(job) == []


def test_what_was_measured_is_what_was_asked(job: LaunchJob) -> None:
    list(run_launch(job))
    with connect(kept(job)) as connection:
        rows = connection.execute(
            "SELECT batch, asked_requests, completed_requests, ttft_n, ttft_p99_ms FROM trials"
            " WHERE kind = 'speed' ORDER BY batch"
        ).fetchall()
        lengths = connection.execute("SELECT DISTINCT phase, prompt_tok, output_tok FROM requests").fetchall()
    assert rows == [(1, 2, 2, 2, None), (2, 2, 2, 2, None)]
    assert sorted(lengths) == [("measure", 16, 8), ("warmup", 16, 8)]


def test_a_warm_up_may_be_shorter_than_what_is_measured(job: LaunchJob) -> None:
    effort = Effort(requests=2, warmup=Warmup(requests=1, context_tok=4, output_tok=64))
    events = list(run_launch(replace(job, trials=job.trials[:1], effort=effort)))
    assert outcomes(events) == [Outcome.OK]
    assert column(job, "SELECT DISTINCT [prompt_tok, output_tok] FROM requests WHERE phase = 'warmup'") == [[4, 8]]
    assert column(job, "SELECT DISTINCT [prompt_tok, output_tok] FROM requests WHERE phase = 'measure'") == [[16, 8]]


def test_the_receipt_says_what_runs(job: LaunchJob) -> None:
    list(run_launch(job))
    (effective,) = column(job, "SELECT effective FROM launches")
    assert duckdb.execute("SELECT json_extract_string(?, '$.kv_k')", [effective]).fetchone() == ("f16",)
    assert column(job, "SELECT len(differences) FROM launches") == [0]


def test_energy_is_missing_and_not_zero_where_nothing_can_be_read(job: LaunchJob) -> None:
    list(run_launch(replace(job, trials=job.trials[:1])))
    status = column(job, "SELECT power_status FROM trials")
    if status == ["available"]:
        assert column(job, "SELECT energy_j > 0 FROM trials") == [True]
    else:
        assert column(job, "SELECT energy_j FROM trials") == [None]


def test_an_engine_killed_in_mid_trial_is_a_crash_with_its_log(job: LaunchJob) -> None:
    events = list(disturbed(job, signal.SIGKILL))
    assert outcomes(events) == [Outcome.CRASHED]
    last = events[-1]
    assert isinstance(last, LaunchEnded)
    assert last.outcome is Outcome.CRASHED
    assert "SIGKILL" in str(column(job, "SELECT reason FROM trials"))
    (log_tail,) = column(job, "SELECT log_tail FROM trials")
    assert "slot" in str(log_tail)
    assert leased(job) == []


def test_an_engine_that_never_answers_is_a_timeout(job: LaunchJob) -> None:
    hasty = replace(job, limits=Limits(launch_s=60, trial_s=1))
    events = list(disturbed(hasty, signal.SIGSTOP))
    assert outcomes(events) == [Outcome.TIMEOUT]
    assert leased(job) == []


def disturbed(job: LaunchJob, what: signal.Signals) -> Iterator[LaunchEvent | Handed]:
    """The launch's events; its engine gets the signal when the first trial starts."""
    for event in run_launch(job):
        if isinstance(event, TrialStarted):
            for pid in engines(job):
                os.kill(pid, what)
        yield event


def engines(job: LaunchJob) -> list[int]:
    """The llama.cpp servers among the launch's processes, not their guards nor the load worker."""
    servers = [pid for pid in leased(job) if b"llamacpp_server" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return [pid for pid in servers if b"guard" not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[3]]


def test_a_checkpoint_that_cannot_be_made_fails_the_launch_and_says_why(job: LaunchJob, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where the cache should be")
    events = list(run_launch(replace(job, cache=tmp_path / "blocked")))
    (ended,) = events
    assert isinstance(ended, LaunchEnded)
    assert ended.outcome is Outcome.LAUNCH_FAILED
    assert ended.reason is not None
    assert "blocked" in ended.reason


def test_what_a_checkpoint_cost_is_a_row_of_the_launch_that_made_it(job: LaunchJob, tmp_path: Path) -> None:
    alone = replace(job, trials=job.trials[:1], cache=tmp_path / "cache")
    first, again = list(run_launch(alone)), list(run_launch(replace(alone, attempt=1, trial_attempts={})))
    assert outcomes(first) == [Outcome.OK]
    assert isinstance(again[-1], LaunchEnded)
    with connect(kept(job)) as connection:
        made = connection.execute(
            "SELECT artifact_id, model, weights, bytes, build_s > 0, tool FROM artifacts"
        ).fetchall()
        launches = connection.execute("SELECT attempt, artifact_bytes, artifact_s FROM launches ORDER BY 1").fetchall()
    ((artifact, model, weights, size, built, tool),) = made
    assert (artifact, model, weights, built) == (job.launch.artifact_id, "tiny", "f16", True)
    assert "gguf" in tool
    assert [row[:2] for row in launches] == [(0, size), (1, size)]
    assert launches[0][2] > 0
    assert launches[1][2] is None


def test_a_server_that_runs_already_is_measured_without_a_checkpoint(
    tmp_path: Path, tiny_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node.yaml").write_text(f'engines: {{endpoint: {{url: "{tiny_url}", version: "1"}}}}\n')
    monkeypatch.setenv("FLEETBENCH_NODE", str(tmp_path / "node.yaml"))
    changes = {"engines": "endpoint", "models": "[{name: tiny, measure: speed}]", "quality": None, "recipes": "[f16]"}
    plan = plan_here(write_matrix(tmp_path, **changes), "default")
    assert plan.plan.refusals == ()
    (launch, _) = plan.plan.launches
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.create()
    job = job_of(plan, launch, warehouse=warehouse.root, cache=tmp_path / "cache")
    events = list(run_launch(job))
    assert outcomes(events) == [Outcome.OK, Outcome.OK], events
    assert column(job, "SELECT artifact_bytes FROM launches") == [None]
    assert column(job, "SELECT count(*) FROM artifacts") == [0]
    assert not (tmp_path / "cache").exists()


def test_a_full_disk_loses_the_trial_by_name_and_the_others_go_on(job: LaunchJob) -> None:
    events: list[LaunchEvent | Handed] = []
    with full_disk() as fill:
        for event in run_launch(job):
            fill(isinstance(event, TrialStarted) and not outcomes(events))
            events.append(event)
    assert outcomes(events) == [Outcome.LOST, Outcome.OK, Outcome.OK, Outcome.OK]
    lost = next(event for event in events if isinstance(event, TrialEnded))
    assert "no room left" in str(lost.reason)
    assert len(Warehouse(kept(job)).committed(job.run_id)) == 3


@contextmanager
def full_disk() -> Iterator[Callable[[bool], None]]:
    """While it is filled, this process can write no file of more than 256 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(full: bool) -> None:  # noqa: FBT001 - a switch
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 if full else soft, hard))

    try:
        yield fill
    finally:
        fill(False)


def test_two_bits_are_measurably_worse_than_the_reference_and_eight_are_not(
    tmp_path: Path, artifact_cache: Path
) -> None:
    """KL against f16, from the engine's own probabilities; accuracies may differ by chance, KL does not."""
    plan = planned(tmp_path, models="[{name: tiny, measure: [quality]}]", load=None, recipes="[f16, q8_0, q2_k]")
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.create()
    record_plan(plan.plan, warehouse)
    for launch in plan.plan.launches:
        asked = 2 if launch.recipe.name == "f16" else 1
        ended = outcomes(list(run_launch(job_of(plan, launch, warehouse=warehouse.root, cache=artifact_cache))))
        assert ended == [Outcome.OK] * asked
    with connect(warehouse.root) as connection:
        kl = dict(connection.execute("SELECT recipe, kl_mean_nat FROM kl").fetchall())
        found = {one.candidate.facts["recipe"]: one for one in judge_run(connection, plan.plan.run_id)}
    assert kl["q8_0"] < 0.005
    assert kl["q2_k"] > 0.02
    assert found["q8_0"].judgement.verdict is not Verdict.BLOCK
    assert found["q2_k"].judgement.verdict is not Verdict.PASS
    assert gate_itself(found["q2_k"]) == dict.fromkeys(found["q2_k"].judgement.churn, 0.0)


def gate_itself(judged: Judged) -> dict[str, float]:
    """The drop of the reference's second run against the first: its engine is deterministic."""
    assert judged.contract is not None
    assert judged.reference is not None
    runs = judged.reference.runs
    assert len(runs) == judged.contract.runs == 2
    return {category: one.drop for category, one in gate(judged.contract, runs, runs[1:]).categories.items()}


def test_an_attempt_that_is_committed_already_is_not_said_to_be_kept(job: LaunchJob) -> None:
    once = replace(job, trials=job.trials[:1])
    assert outcomes(list(run_launch(once))) == [Outcome.OK]
    again = [event for event in run_launch(once) if isinstance(event, TrialEnded)]
    assert [event.outcome for event in again] == [Outcome.LOST]
    assert "already" in str(again[0].reason)
