"""Instructions whose keeping can be verified from the answer, alone, several at once, or after a long text."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from fleetbench_collectors.quality.general import words
from fleetbench_collectors.quality.general.item import CHARS_PER_TOK, Item, Reply, distinct, make, stream

CATEGORY = "instruction"
LONG_TOK = 4096
_RESERVE_TOK = 512
_MAX_TOKENS = 200
_TEXTS = 8
"""Long texts; the items that share one are a cluster."""


def items(n: int, seed: int, context_tok: int) -> Iterator[Item]:
    """Easy, hard and, where the context holds them, long ones in equal shares."""
    rng = stream(seed, CATEGORY)
    strata = ("easy", "hard", "long") if context_tok >= LONG_TOK else ("easy", "hard")
    chars = int((LONG_TOK - _RESERVE_TOK) * CHARS_PER_TOK)
    texts = [" ".join(words.filler(stream(seed, CATEGORY, i), chars)) for i in range(_TEXTS)]
    return distinct(n, lambda i: _draw(rng, strata[i % len(strata)], texts))


def is_correct(item: Item, reply: Reply) -> bool:
    """Every instruction is kept."""
    lines = reply.text.strip().split("\n")
    want: dict[str, Any] = item.want
    kept = [
        len(lines) == want["lines"],
        all(line.startswith(want["begin"]) for line in lines),
        all(len(line.removeprefix(want["begin"]).split()) == want["words"] for line in lines),
        sum(word == want["word"] for line in lines for word in line.split()) == want["times"],
    ]
    if "end" in want:
        kept.append(lines[-1].endswith(want["end"]))
    if "without" in want:
        kept.append(not any(want["without"] in line.removeprefix(want["begin"]).lower() for line in lines))
    return all(kept)


def _draw(rng: Random, stratum: str, texts: list[str]) -> Item:
    word = rng.choice(words.COLOURS)
    want: dict[str, Any] = {
        "lines": rng.randint(2, 4),
        "begin": rng.choice(("- ", "* ", "> ", "# ")),
        "words": rng.randint(3, 6),
        "word": word,
        "times": 1,
    }
    asks = [
        f"Write exactly {want['lines']} lines.",
        f"Begin every line with '{want['begin']}' and then write exactly {want['words']} words.",
        f"Use the word {word} exactly once, in lower case and without punctuation next to it.",
    ]
    if stratum != "easy":
        want |= {"end": rng.choice(words.PLACES)}
        want |= {"without": rng.choice([char for char in "jkqxyz" if char not in word + want["end"]])}
        asks.append(f"The last word of the last line is {want['end']}, with nothing after it.")
        asks.append(f"The letter {want['without']} stands nowhere in the words.")
    text = rng.choice(texts) if stratum == "long" else None
    head = f"{text}\n\nLeave the text above aside.\n" if text else ""
    return make(CATEGORY, stratum, head + "\n".join(asks), want, _keep(want), max_tokens=_MAX_TOKENS, cluster=text)


def _keep(want: dict[str, Any]) -> str:
    """An answer that keeps them all."""
    lines = [["a"] * want["words"] for _ in range(want["lines"])]
    lines[0][0] = want["word"]
    if "end" in want:
        lines[-1][-1] = want["end"]
    return "\n".join(want["begin"] + " ".join(line) for line in lines)
