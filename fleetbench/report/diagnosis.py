"""Hints on what a recipe lost by, and items that used to pass and now fail, beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from fleetbench.judge.parity.diagnosis import NO_PATTERN, hints
from fleetbench.judge.parity.examples import examples
from fleetbench.judge.parity.gate import Answers, Judgement
from fleetbench.judge.parity.verdict import Verdict
from fleetbench.report.result import Panel, Result


class Side(Protocol):
    """A deployment as it was measured; runs: its answers."""

    @property
    def facts(self) -> Mapping[str, Any]: ...
    @property
    def runs(self) -> Sequence[Answers]: ...


class Judged(Protocol):
    """A candidate, the reference beside it, and what came of both."""

    @property
    def candidate(self) -> Side: ...
    @property
    def reference(self) -> Side | None: ...
    @property
    def judgement(self) -> Judgement: ...


def diagnosis_panels(judged: Sequence[Judged]) -> Iterator[Panel]:
    """A line for each recipe that is blocked: what the pattern of its losses may come from."""
    for one, reference in _blocked(judged):
        found = [hint.text for hint in hints(reference.runs, one.candidate.runs)] or [NO_PATTERN]
        recipe = one.candidate.facts["recipe"]
        rows = tuple((recipe, text) for text in found)
        yield Panel(
            name="diagnosis",
            title=f"Hints: {recipe}",
            result=Result(columns=("recipe", "hint"), rows=rows),
            keys=1,
            line=f"{recipe}, a hint and no finding: {'; '.join(found)}",
        )


def example_panels(judged: Sequence[Judged]) -> Iterator[Panel]:
    """Of each blocked recipe items that the reference has right in every run, and it in none."""
    for one, reference in _blocked(judged):
        columns = ("item_id", "category", "stratum", "context_tok", "expected", "before", "after")
        found = examples(reference.runs, one.candidate.runs)
        yield Panel(
            name="examples",
            title=f"{one.candidate.facts['recipe']}: right before, wrong now",
            result=Result(
                columns=columns, rows=tuple(tuple(getattr(each, name) for name in columns) for each in found)
            ),
            keys=1,
        )


def _blocked(judged: Sequence[Judged]) -> Iterator[tuple[Judged, Side]]:
    for one in judged:
        if one.judgement.verdict is Verdict.BLOCK and one.reference is not None:
            yield one, one.reference
