"""What a candidate is judged by: the reference, what it was asked, and how much may be lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from fleetbench.matrix.identity import canonical, digest

FEWEST_RUNS = 2
SIGMAS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The reference as it ran.

    weights: identity of its checkpoint; model: digest of what determines weights and tokenizer; effective: JSON of what
    the engine says that it runs, None where it says nothing.
    """

    recipe: str
    model: str
    weights: str
    engine: str
    engine_version: str
    hardware: str
    parallel: tuple[int, int, int]
    effective: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """All that has to be the same for two judgements to be comparable.

    items: how many of each category; asked: digest of all items' ids, which are digests of prompts, answers and the
    scoring's version; runs: of the reference; margins: the acceptable drop by category; churn: its stated floor.
    """

    reference: Deployment
    suite: str
    seed: int
    items: tuple[tuple[str, int], ...]
    asked: str
    runs: int
    margins: tuple[tuple[str, float], ...]
    churn: float
    workload: tuple[str, ...]

    @property
    def text(self) -> str:
        return canonical(asdict(self))

    @property
    def contract_id(self) -> str:
        return digest(asdict(self))[:16]


def asked_of(item_ids: Sequence[str]) -> str:
    """The digest of a set of items; their order does not matter."""
    return digest(sorted(item_ids))


def differences(contract: Contract, *, suite: str, seed: int, items: Mapping[str, str]) -> tuple[str, ...]:
    """Why answers are to other questions than the contract's; none where they are to the same.

    Args:
        contract: what was agreed.
        suite: with its version, that the answers are to.
        seed: of its items.
        items: category by item id.
    """
    found = []
    if suite != contract.suite:
        found.append(f"suite {suite}, not {contract.suite}")
    if seed != contract.seed:
        found.append(f"seed {seed}, not {contract.seed}")
    counts: dict[str, int] = {}
    for category in items.values():
        counts[category] = counts.get(category, 0) + 1
    for category, wanted in contract.items:
        if (there := counts.pop(category, 0)) != wanted:
            found.append(f"{there} items of {category}, not {wanted}")
    found += [f"{extra} items of {category}, which the contract has not" for category, extra in sorted(counts.items())]
    if not found and asked_of(list(items)) != contract.asked:
        found.append("other items under the same suite and seed")
    return tuple(found)
