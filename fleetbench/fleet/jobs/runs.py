"""Runs as Ray jobs: the controller is a driver on the head, so whoever submits need not be in the cluster, nor stay."""

from __future__ import annotations

import base64
import secrets
import shlex
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.fleet.jobs.api import JobsApi, LostError, RefusedError, job_path
from fleetbench.fleet.jobs.marks import ACTIVE, MARK, MATRIX, NAME, PYTHON, RUN, RUN_ID, WAREHOUSE
from fleetbench.matrix.fields import is_hub_word
from fleetbench.matrix.identity import run_id
from fleetbench.matrix.read import read_elsewhere

PREFIX = "fleetbench-"
MATRIX_BYTES = 64 * 1024
"""Of a compressed matrix: a job's metadata is one variable of its driver's environment, 128 KiB with all else."""
LOOK_S = 0.5
LOG_BYTES_PER_S = 200_000
"""At most, while a job goes on: the API gives its whole log each time, so a long one is asked for less often. What is
new alone comes by a WebSocket only, two seconds late, and not through a proxy that passes plain HTTP."""
LOST_S = 60.0
"""How long a follower looks for a dashboard that does not answer any more."""
STOPPED, FAILED = 3, 1
_HEADER = "Running entrypoint for job "
_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHandle:
    """A job on a cluster; joined: whether it was there before."""

    api: JobsApi
    submission_id: str
    run_id: str
    joined: bool


Write = Callable[[str, bool], None]
"""Takes a line of a job, and whether it is of its standard output."""


def submit_job(
    api: JobsApi, matrix: Path, *, run: str, warehouse: PurePosixPath, options: Sequence[str] = ()
) -> JobHandle:
    """Have the cluster run `fleetbench submit` on its head; where such a job goes on for this run, join it.

    Args:
        api: of the cluster.
        matrix: a file here; what it names must be where the cluster's nodes see it.
        run: its name.
        warehouse: a folder as the cluster's nodes see it.
        options: more words for `fleetbench submit`.

    Raises:
        InputError: the matrix is wrong, or names something that only this machine has.
        UnusableEnvironmentError: the cluster does not take it.
    """
    text, read, lines = read_elsewhere(matrix)
    mistakes = [lines.mistake(loc, why) for loc, why in _here_alone(read, matrix.parent)]
    if not warehouse.is_absolute():
        mistakes.append(f"--warehouse {warehouse}: give the whole path, as the cluster's nodes see it")
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")
    if len(packed) > MATRIX_BYTES:
        mistakes.append(f"{matrix}: is too large to be sent along (copy it to the head, and submit it there)")
    if mistakes:
        raise InputError(tuple(mistakes))
    identity = run_id(read, run)
    words = ["submit", matrix.name, "--address", "auto", "--warehouse", str(warehouse), "--run", run, *options]
    metadata = {MATRIX: packed, RUN_ID: identity, RUN: run, NAME: read.name, WAREHOUSE: str(warehouse)}
    for _ in range(_TRIES):
        earlier = runs_jobs(api, identity)
        if earlier and earlier[-1]["status"] in ACTIVE:
            return JobHandle(api=api, submission_id=earlier[-1]["submission_id"], run_id=identity, joined=True)
        name = f"{PREFIX}{identity}-{_number(earlier[-1]) + 1 if earlier else 1}"
        try:
            api.call(
                "POST", "/api/jobs/", {"entrypoint": entrypoint(words), "submission_id": name, "metadata": metadata}
            )
        except RefusedError as error:
            if "already exists" not in error.said:
                raise UnusableEnvironmentError(str(error)) from error
        else:
            return JobHandle(api=api, submission_id=name, run_id=identity, joined=False)
    raise UnusableEnvironmentError(f"others submit run {identity} all the time: see `fleetbench status`")


def runs_jobs(api: JobsApi, identity: str | None = None) -> list[dict[str, Any]]:
    """The jobs that were submitted for a run, or for any, the first one first."""
    try:
        jobs = api.call("GET", "/api/jobs/")
    except RefusedError as error:
        raise UnusableEnvironmentError(f"{error} (does the head have 'fleetbench[cluster]'?)") from error
    if not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise api.no_dashboard()
    found = [
        job
        for job in jobs
        if (job.get("metadata") or {}).get(RUN_ID) and (identity is None or job["metadata"][RUN_ID] == identity)
    ]
    return sorted(found, key=lambda job: (job.get("start_time") or 0, _number(job)))


def _number(job: dict[str, Any]) -> int:
    last = str(job.get("submission_id")).rpartition("-")[2]
    return int(last) if last.isdecimal() else 0


def ask_cluster(api: JobsApi, words: Sequence[str]) -> JobHandle:
    """Have the head run a `fleetbench` command that looks at its cluster.

    It stays in the cluster's list of jobs: one that is deleted as it ends comes back there as failed.
    """
    name = f"{PREFIX}{words[0]}-{secrets.token_hex(4)}"
    try:
        api.call("POST", "/api/jobs/", {"entrypoint": entrypoint(words), "submission_id": name})
    except RefusedError as error:
        raise UnusableEnvironmentError(str(error)) from error
    return JobHandle(api=api, submission_id=name, run_id="", joined=False)


def entrypoint(words: Sequence[str]) -> str:
    """A shell's command: the Python of the head, which Ray's shell may not have in its PATH, with our words."""
    lacks = (
        "error: the head's Python has no fleetbench: start the head by `fleetbench node up --head`, or set "
        f"{PYTHON} in its environment to the interpreter that has it"
    )
    return (
        f'p="${{{PYTHON}:-$(command -v python || command -v python3)}}"; '
        f'"$p" -c "import fleetbench.cli.as_job" 2>/dev/null || {{ echo {shlex.quote(lacks)}; exit 4; }}; '
        f'exec "$p" -m fleetbench.cli.as_job {shlex.join(words)}'
    )


def follow(handle: JobHandle, write: Write, *, last: int | None = None) -> int:
    """Write a job's lines as they come until it ends, its end at once; returns its exit code, 3 where it was stopped.

    last: of the lines that are there already, no more than so many.

    Raises:
        UnusableEnvironmentError: the dashboard was lost, or the job did not come to run.
    """
    written, due_s = 0, 0.0
    while True:
        job = _patient(handle, "", "status")
        ended = job["status"] not in ACTIVE
        if ended or time.monotonic() >= due_s:
            text = str(_patient(handle, "/logs", "logs")["logs"])
            due_s = time.monotonic() + len(text) / LOG_BYTES_PER_S
            whole = len(text) if ended else text.rfind("\n") + 1
            lines = list(_own(text[:whole], written))
            for line in lines if last is None else lines[-last:]:
                write(line.removeprefix(MARK), line.startswith(MARK))
            written, last = max(whole, written), None
        if ended:
            return _code(job)
        time.sleep(LOOK_S)


def log(handle: JobHandle, write: Write) -> None:
    """Write the lines of a job that there are."""
    for line in _own(str(_patient(handle, "/logs", "logs")["logs"]), 0):
        write(line.removeprefix(MARK), line.startswith(MARK))


def _own(text: str, written: int) -> Iterator[str]:
    """The lines after `written` characters, without what Ray says before the command's first."""
    start = text.find("\n", at) + 1 if (at := text.find(_HEADER)) >= 0 else 0
    begin = max(start, written)
    if start and begin < len(text):
        yield from text[begin:].removesuffix("\n").split("\n")


def _code(job: dict[str, Any]) -> int:
    if job["status"] == "STOPPED":
        return STOPPED
    if job.get("driver_exit_code") is not None:
        return int(job["driver_exit_code"])
    if job["status"] == "SUCCEEDED":
        return 0
    said = str(job.get("message") or "without a word").strip().splitlines()
    raise UnusableEnvironmentError(f"job {job['submission_id']} did not run on the cluster: {said[-1][:300]}")


def _patient(handle: JobHandle, what: str, key: str) -> dict[str, Any]:
    """An answer about the job that has the key, asked for again where the dashboard does not answer now."""
    until = time.monotonic() + LOST_S
    while True:
        try:
            found = handle.api.call("GET", job_path(handle.submission_id, what))
        except LostError as error:
            if time.monotonic() > until:
                raise UnusableEnvironmentError(f"{error}; job {handle.submission_id} may go on") from error
            time.sleep(1.0)
        except RefusedError as error:
            raise UnusableEnvironmentError(str(error)) from error
        else:
            if not isinstance(found, dict) or key not in found:
                raise handle.api.no_dashboard()
            return found


def stop(api: JobsApi, submission_id: str) -> None:
    """End a job: SIGTERM, and SIGKILL some seconds later."""
    try:
        api.call("POST", job_path(submission_id, "/stop"), {})
    except RefusedError as error:
        raise UnusableEnvironmentError(str(error)) from error


def _here_alone(matrix: Any, folder: Path) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Paths in a matrix of that folder that mean nothing on another machine."""
    why = "a relative path means nothing on the cluster (give the whole path, as its nodes see it)"
    for index, model in enumerate(matrix.models):
        if model.path is not None and not PurePosixPath(model.path).is_absolute():
            yield ("models", index, "path"), why
    for index, recipe in enumerate(matrix.recipes):
        paths = [*recipe.lora, recipe.calibration and recipe.calibration.path]
        if recipe.draft and (not is_hub_word(recipe.draft.model or "") or (folder / recipe.draft.model).exists()):
            paths.append(recipe.draft.model)
        if any(path and not PurePosixPath(path).is_absolute() for path in paths):
            yield ("recipes", index), why
