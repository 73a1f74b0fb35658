"""Runs that were submitted as jobs, by Ray's own table of these: also before there is a desk, and where none came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fleetbench.fleet.control.parting import entries, last_words
from fleetbench.fleet.control.sighting import STARTING, Condition, Sighting
from fleetbench.fleet.jobs.marks import ACTIVE, NAME, RUN, RUN_ID, WAREHOUSE
from fleetbench.fleet.nodes.connection import DASHBOARD_PORT

PREFIX, SPACE = b"_ray_internal_job_info_", b"job"
"""Where Ray keeps jobs (`JobInfoStorageClient` of its dashboard): of all nodes a driver reaches it, and its dashboard
only where that listens."""
DONE = (0, 1)
"""Exit codes of a `submit` that came to its end."""
INTERRUPTED = 3


def runs_of_jobs() -> list[Sighting]:
    """The runs that are jobs of the cluster, by the last job of each, the latest first."""
    ended_ms = {status.run_id: 1e3 * status.updated_s for status in last_words()}
    latest: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for key, text in entries(PREFIX, SPACE).items():
        job = _read(text)
        run_id = (job.get("metadata") or {}).get(RUN_ID)
        if run_id and (run_id not in latest or _began_ms(job) > _began_ms(latest[run_id][1])):
            latest[run_id] = key.removeprefix(PREFIX).decode(errors="replace"), job
    return [
        sighting(submission_id, job)
        for submission_id, job in sorted(latest.values(), key=lambda found: -_began_ms(found[1]))
        if ended_ms.get(job["metadata"][RUN_ID], 0) < _began_ms(job)  # else it has said its last word itself
    ]


def sighting(submission_id: str, job: Mapping[str, Any]) -> Sighting:
    """A run of which nothing but its job is known."""
    metadata = job["metadata"]
    condition, why = _stands(submission_id, job)
    return Sighting(
        run_id=metadata[RUN_ID],
        condition=condition,
        status=None,
        why=why,
        on_cluster=True,
        run=metadata.get(RUN, ""),
        matrix=metadata.get(NAME, ""),
        warehouse=metadata.get(WAREHOUSE),
    )


def _stands(submission_id: str, job: Mapping[str, Any]) -> tuple[Condition, str]:
    code = job.get("driver_exit_code")
    if job.get("status") == "PENDING":
        return "starting", f"job {submission_id} is pending: the head has not started it yet"
    if job.get("status") in ACTIVE:
        return "starting", STARTING
    if code in DONE:
        return "ended", f"job {submission_id} came to its end"
    if code == INTERRUPTED or job.get("status") == "STOPPED":
        return "interrupted", f"job {submission_id} was stopped"
    how = f"ended with exit code {code}" if code is not None else "did not come to run"
    logs = f"fleetbench logs {job['metadata'][RUN_ID]} --address http://HEAD:{DASHBOARD_PORT}"
    return "failed", f"job {submission_id} {how} (why: {logs})"


def _began_ms(job: Mapping[str, Any]) -> float:
    return float(job.get("start_time") or 0)


def _read(text: bytes) -> Mapping[str, Any]:
    with suppress(ValueError):
        if isinstance(job := json.loads(text), dict):
            return job
    return {}
