"""Plain words for filler and questions."""

from __future__ import annotations

from random import Random

NAMES = ("Ada", "Boris", "Carla", "Dmitri", "Elena", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kofi", "Lena",
         "Mira", "Nils", "Olga", "Pablo", "Rosa", "Sven", "Tara", "Umar", "Vera", "Wanda", "Yusuf", "Zora")  # fmt: skip
THINGS = ("pears", "stamps", "bolts", "candles", "buttons", "pencils", "tickets", "shells", "marbles", "spoons",
          "lanterns", "ribbons")  # fmt: skip
PLACES = ("harbour", "mill", "library", "orchard", "workshop", "station", "bakery", "garden", "tower", "market",
          "bridge", "meadow", "museum", "stable", "quarry", "theatre")  # fmt: skip
COLOURS = ("amber", "crimson", "ivory", "olive", "scarlet", "teal", "violet", "copper", "indigo", "silver", "golden",
           "maroon")  # fmt: skip
_DOES = ("swept", "painted", "visited", "measured", "described", "photographed", "repaired", "left", "admired", "drew")
_WHEN = ("before noon", "after the rain", "on a cold morning", "late in the evening", "without any hurry",
         "for the second time", "while the others slept", "as the season ended")  # fmt: skip


def sentence(rng: Random) -> str:
    """Filler that holds no digit, so that no number in it can be mistaken for a needle."""
    name, does, colour = rng.choice(NAMES), rng.choice(_DOES), rng.choice(COLOURS)
    return f"{name} {does} the {colour} {rng.choice(THINGS)} near the {rng.choice(PLACES)} {rng.choice(_WHEN)}."


def filler(rng: Random, chars: int) -> list[str]:
    """Sentences of about `chars` characters together."""
    out: list[str] = []
    size = 0
    while size < chars:
        out.append(sentence(rng))
        size += len(out[-1]) + 1
    return out
