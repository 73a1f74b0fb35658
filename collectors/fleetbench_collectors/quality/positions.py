"""Teacher-forced positions: where the engine's distribution over the next token is taken, and its check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fleetbench_collectors.quality import tasks
from fleetbench_collectors.quality.suite import Item

MASS_TOLERANCE = 1e-3


class PositionsRefusedError(Exception):
    """The engine's probabilities are no distribution over the vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Log-probabilities (nat) of every token id, ids ascending."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]

    @property
    def mass(self) -> float:
        return math.fsum(math.exp(logprob) for logprob in self.logprobs)


def choose(items: Sequence[Item], n: int, seed: int) -> list[tuple[Item, tuple[int, ...]]]:
    """`n` answer positions, equally many of each category but needle, drawn by seed.

    The same items, n and seed choose the same positions, which is what pairs recipes. Fewer come out where the
    answers have fewer. Needle is left out: an answer of one token behind a long prompt.
    """
    pool: dict[str, list[tuple[Item, int]]] = {}
    for item in items:
        if item.category != "needle":
            pool.setdefault(item.category, []).extend((item, j) for j in range(len(item.answer_ids)))
    out: dict[str, tuple[Item, list[int]]] = {}
    for i, (category, places) in enumerate(pool.items()):
        share = (n + len(pool) - 1 - i) // len(pool)
        drawn = tasks.stream(f"{seed}/positions/{category}").sample(range(len(places)), min(share, len(places)))
        for index in sorted(drawn):
            item, position = places[index]
            out.setdefault(item.item_id, (item, []))[1].append(position)
    return [(item, tuple(positions)) for item, positions in out.values()]


def parse(reply: Any) -> Distribution:
    """The distribution in a llama-server `/completion` reply with `n_probs`, checked.

    Raises:
        PositionsRefusedError: missing or malformed, a token twice, or a mass further than 1e-3 from 1.
    """
    try:
        pairs = sorted(
            (int(entry["id"]), float(entry["logprob"]))
            for entry in reply["completion_probabilities"][0]["top_logprobs"]
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise PositionsRefusedError(f"the engine sent no token probabilities ({error!r})") from error
    ids, logprobs = tuple(i for i, _ in pairs), tuple(logprob for _, logprob in pairs)
    if len(set(ids)) != len(ids) or any(math.isnan(logprob) or logprob > MASS_TOLERANCE for logprob in logprobs):
        raise PositionsRefusedError("the engine's token probabilities repeat a token or are no probabilities")
    found = Distribution(ids=ids, logprobs=logprobs)
    if abs(found.mass - 1.0) > MASS_TOLERANCE:
        raise PositionsRefusedError(
            f"the engine's probabilities of {len(ids)} tokens add up to {found.mass:.6f}, not to 1: "
            "no KL divergence can be computed from them"
        )
    return found
