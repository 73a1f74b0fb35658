"""What of a run is settled already: resume is the plan minus its committed trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleetbench.matrix.types import Outcome
from fleetbench.store.commit import CommittedTrial, best

UNSETTLED = frozenset({Outcome.LOST, Outcome.CANCELLED})
"""Outcomes that say nothing of the cell: such a trial runs again without being asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """outcomes: of settled trials, by trial_id; attempts: tries so far of any trial, by trial_id."""

    outcomes: Mapping[str, Outcome]
    attempts: Mapping[str, int]


def progress(committed: Iterable[CommittedTrial], *, retry_failed: bool) -> Progress:
    """Sort what was committed into settled and to be done again."""
    rows = list(committed)
    attempts: dict[str, int] = {}
    for row in rows:
        attempts[row.trial_id] = max(attempts.get(row.trial_id, 0), row.attempt + 1)
    settled = {
        trial_id: row.outcome
        for trial_id, row in best(rows).items()
        if row.outcome is Outcome.OK or not (retry_failed or row.outcome in UNSETTLED)
    }
    return Progress(outcomes=settled, attempts=attempts)
