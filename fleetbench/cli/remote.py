"""Commands by `--address http(s)://HEAD:8265`: what they do is done on the cluster's head, as a Ray job."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from fleetbench.cli.live import note
from fleetbench.cli.places import again, leaving, warehouse_given

if TYPE_CHECKING:
    from fleetbench.fleet.jobs.api import JobsApi
    from fleetbench.fleet.jobs.runs import JobHandle

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 3
LINES_SHOWN = 20
"""Of a job, from before somebody watched."""


def send(
    matrix: Path,
    *,
    run: str,
    options: Sequence[str],
    address: str,
    token: Path | None,
    warehouse: Path,
    detach: bool,
) -> int:
    """Submit a matrix as a job on the head; follow it to its end, or say how to.

    options: more words for `submit` there.
    """
    from fleetbench.fleet.jobs.runs import submit_job

    if not warehouse_given():
        raise click.UsageError(
            "--address http://... needs --warehouse DIR: the controller runs on the cluster's head, and keeps results "
            "in a folder there (one that all nodes share, if they do)"
        )
    api = _reach(address, token)
    handle = submit_job(api, matrix, run=run, warehouse=PurePosixPath(warehouse), options=options)
    if handle.joined:
        note(f"run {handle.run_id} is being measured already, as job {handle.submission_id}: what it was asked stands")
    else:
        note(f"run {handle.run_id} is submitted, as job {handle.submission_id}")
    watch = again("watch", handle.run_id, address=address, token=token)
    cancel = again("cancel", handle.run_id, address=address, token=token)
    if detach:
        note(f"watch it, or stop it:\n  {watch}\n  {cancel}")
        return 0
    code = _follow(handle)
    if code is None:
        note(f"left: the run goes on. Watch it, or stop it:\n  {watch}\n  {cancel}")
        return INTERRUPTED
    if code in (FAILED, INTERRUPTED):
        words = ["--run", run, "--address", address, "--warehouse", str(warehouse), *options]
        if code == FAILED and "--retry-failed" not in options:
            words.append("--retry-failed")
        what = "go on" if code == INTERRUPTED else "run it again"
        note(f"from here, {what} with\n  {shlex.join(['fleetbench', 'submit', str(matrix), *words])}")
    return code


def ask(verb: str, words: Sequence[str], address: str | None, token: Path | None, warehouse: Path) -> int:
    """What a command about runs says on the head; some seconds slower than there."""
    api = _reach(address or "", token)
    job = _job_of(api, words[0]) if words and not words[0].startswith("-") else None
    if job is not None and verb in ("watch", "logs") and "--launch" not in words:
        return _log_of(api, job, verb, words, again("cancel", words[0], address=address, token=token))
    return _ask(api, [verb, *words], job, warehouse)


def ask_cancel(run: str, address: str | None, token: Path | None, warehouse: Path, *, no_wait: bool) -> int:
    """Stop a run by its desk on the cluster, or its job, where that has not come to have one."""
    from fleetbench.fleet.jobs.marks import ACTIVE
    from fleetbench.fleet.jobs.runs import stop

    api = _reach(address or "", token)
    code = _ask(api, ["cancel", run, *(["--no-wait"] if no_wait else [])], _job_of(api, run), warehouse)
    job = _job_of(api, run) if code in (FAILED, WRONG_INPUT) else None  # not driven there, or not known
    if job is None or job["status"] not in ACTIVE:
        return code
    stop(api, job["submission_id"])
    note(f"job {job['submission_id']} has begun no launch yet: it is stopped")
    return 0


def _reach(address: str, token: Path | None) -> JobsApi:
    from fleetbench.fleet.jobs.api import reach_jobs

    api = reach_jobs(address, token)
    if api.clear_text:
        note("note: http:// carries the token in clear text: where others use the network, take https:// or ssh -L")
    return api


def _ask(api: JobsApi, words: Sequence[str], job: dict[str, Any] | None, warehouse: Path) -> int:
    """Run a command on the head; a run that a job drove is also looked for in the warehouse that it went to."""
    from fleetbench.fleet.jobs.marks import WAREHOUSE
    from fleetbench.fleet.jobs.runs import ask_cluster, stop

    folder = str(warehouse) if warehouse_given() else job and job["metadata"].get(WAREHOUSE)
    handle = ask_cluster(api, [*words, "--address", "auto", *(["--warehouse", folder] if folder else [])])
    code = _follow(handle)
    if code is None:
        stop(api, handle.submission_id)
        return INTERRUPTED
    return code


def _job_of(api: JobsApi, run: str) -> dict[str, Any] | None:
    """The job that drives a run, or drove it last; None where none did, or several may be meant."""
    from fleetbench.fleet.jobs.marks import NAME, RUN, RUN_ID
    from fleetbench.fleet.jobs.runs import runs_jobs
    from fleetbench.report.runs import hits

    jobs = {job["metadata"][RUN_ID]: job for job in runs_jobs(api)}  # the last one of each run
    known = [(run_id, job["metadata"].get(RUN, ""), job["metadata"].get(NAME, "")) for run_id, job in jobs.items()]
    meant = hits(run, known)
    return jobs[meant[0]] if len(meant) == 1 else None


def _log_of(api: JobsApi, job: dict[str, Any], verb: str, words: Sequence[str], cancel: str) -> int:
    """A run's job says all that its `submit` does."""
    from fleetbench.fleet.jobs.marks import RUN_ID
    from fleetbench.fleet.jobs.runs import JobHandle, log

    handle = JobHandle(api=api, submission_id=job["submission_id"], run_id=job["metadata"][RUN_ID], joined=True)
    if verb == "logs" and not {"--follow", "-f"} & set(words):
        log(handle, _write)
        return 0
    code = _follow(handle, last=LINES_SHOWN if verb == "watch" else None)
    if code is None:
        note(f"left: the run goes on; this stops it:\n  {cancel}")
        return INTERRUPTED
    return code if verb == "watch" else 0


def _follow(handle: JobHandle, *, last: int | None = None) -> int | None:
    """The job's exit code, its lines said here as they come; None where the user leaves."""
    from fleetbench.fleet.jobs.runs import follow

    with leaving():
        try:
            return follow(handle, _write, last=last)
        except KeyboardInterrupt:
            return None


def _write(line: str, out: bool) -> None:  # noqa: FBT001 - what `follow` calls
    click.echo(line, err=not out)
