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
    """outcomes: of settled trials, by trial_id."""

    outcomes: Mapping[str, Outcome]


def progress(committed: Iterable[CommittedTrial], *, retry_failed: bool) -> Progress:
    """Sort what was committed into settled and to be done again."""
    settled = {
        trial_id: row.outcome
        for trial_id, row in best(committed).items()
        if row.outcome is Outcome.OK or not (retry_failed or row.outcome in UNSETTLED)
    }
    return Progress(outcomes=settled)
