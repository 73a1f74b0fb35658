"""Whether a node sees the controller's warehouse: proved by a file with a word that nobody else knows."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.control.journal import control
from fleetbench.fleet.launch.job import LaunchJob

PROOF = "proof"
_MOST_BYTES = 4096


def prove(warehouse: Path, run_id: str) -> str:
    """Leave a fresh word in the warehouse.

    Raises:
        UnusableEnvironmentError: it cannot be written.
    """
    word = secrets.token_hex(16)
    folder = control(warehouse, run_id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PROOF).write_text(word)
    except OSError as error:
        raise UnusableEnvironmentError(f"the warehouse {warehouse} cannot be used: {error.strerror}") from error
    return word


def why_unseen(warehouse: str, run_id: str, word: str) -> str | None:
    """Why this machine cannot commit to that warehouse; None where it can."""
    root = Path(warehouse)
    try:
        with (control(root, run_id) / PROOF).open("rb") as file:
            found = file.read(_MOST_BYTES)
    except OSError as error:
        return f"{warehouse} is not the submitter's here ({error.strerror})"
    if found != word.encode():
        return f"{warehouse} is another folder here"
    if not os.access(root / "landing", os.W_OK | os.X_OK):
        return f"{warehouse} cannot be written here"
    return None


def why_not_seen(job: LaunchJob) -> str | None:
    """`why_unseen` of a job's warehouse."""
    if job.warehouse is None or job.proof is None:
        return None
    return why_unseen(str(job.warehouse), job.run_id, job.proof)
