"""Whether a trial's numbers may be compared: asked against counted by the server."""

from __future__ import annotations

from dataclasses import dataclass

from fleetbench.matrix.types import Outcome

BOS_TOK = 1
"""A server may report the shared begin-of-sequence token as cached: no prefix cache helped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a trial asked and what came of it; `wrong_*` are the server's counts that differ, with how often."""

    asked: int
    completed: int
    failures: tuple[tuple[str, int], ...]
    wrong_prompt_tok: tuple[tuple[int | None, int], ...]
    wrong_output_tok: tuple[tuple[int | None, int], ...]
    asked_prompt_tok: int
    asked_output_tok: int
    cached_tok: int
    warmup_failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    outcome: Outcome
    reason: str | None

    @property
    def valid(self) -> bool:
        return self.outcome is Outcome.OK


def judge(counts: Counts) -> Validity:
    """Valid only if every request completed with exactly the lengths asked for and no cache's help."""
    reasons = [*_failed(counts), *_lengths(counts)]
    if counts.cached_tok > BOS_TOK:
        reasons.append(f"the server took {counts.cached_tok} prompt tokens of a request from a cache")
    if reasons:
        return Validity(outcome=Outcome.INVALID, reason="; ".join(reasons))
    return Validity(outcome=Outcome.OK, reason=None)


def _failed(counts: Counts) -> list[str]:
    reasons = [f"{n} of {counts.asked} requests failed: {kind}" for kind, n in counts.failures]
    unstarted = counts.asked - counts.completed - sum(n for _, n in counts.failures)
    if unstarted > 0:
        reasons.append(f"{unstarted} of {counts.asked} requests never ran")
    if counts.warmup_failed:
        reasons.append(f"{counts.warmup_failed} warm-up requests failed")
    return reasons


def _lengths(counts: Counts) -> list[str]:
    checks = (
        ("prompt", counts.asked_prompt_tok, counts.wrong_prompt_tok),
        ("output", counts.asked_output_tok, counts.wrong_output_tok),
    )
    return [
        f"{n} requests have {'no count of' if got is None else got} {what} tokens by the server's usage, asked: {asked}"
        for what, asked, wrong in checks
        for got, n in wrong
    ]
