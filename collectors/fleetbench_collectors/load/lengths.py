"""How long prompts and answers are: a length, or a distribution of lengths, in tokens."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from typing import Literal

LENGTH_MAX_TOK = 10_000_000
# A standard normal variate is below this in 99.9 of 100 cases.
TAIL_Z = 3.0902

_FORMS = "512, 256..1024, normal:MEAN,DEVIATION or lognormal:MEDIAN,SIGMA, the last two also with ,LOW..HIGH"
_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,12})?)"
_RANGE = re.compile(r"([0-9]{1,12})(?:\.\.([0-9]{1,12}))?")
_SHAPED = re.compile(rf"(normal|lognormal):{_NUMBER},{_NUMBER}(?:,([0-9]{{1,12}})\.\.([0-9]{{1,12}}))?")
_SIGMA_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """A distribution of lengths in tokens, all of them from `shortest` to `longest`.

    kind: `uniform` over the whole numbers between the two, both included; `normal` with the mean `centre` and
    the standard deviation `spread`; `lognormal` with the median `centre` and `spread`, the deviation of the
    logarithm. What falls outside becomes the bound that it passed, so the mean moves a little inwards.
    Without bounds of its own a distribution ends at 1 token and at its 99.9th percentile.
    """

    text: str
    kind: Literal["uniform", "normal", "lognormal"]
    centre: float
    spread: float
    shortest: int
    longest: int

    def __str__(self) -> str:
        return self.text

    @property
    def fixed(self) -> int | None:
        """The length where there is only one."""
        return self.longest if self.shortest == self.longest else None

    def draw(self, rng: random.Random) -> int:
        """A length in tokens, at least 1; takes nothing from `rng` where the length is fixed."""
        if self.shortest == self.longest:
            return self.longest
        if self.kind == "uniform":
            return rng.randint(self.shortest, self.longest)
        if self.kind == "normal":
            drawn = rng.normalvariate(self.centre, self.spread)
        else:
            drawn = rng.lognormvariate(math.log(self.centre), self.spread)
        return max(round(min(drawn, self.longest)), self.shortest)


def parse(text: str) -> Lengths:
    """Lengths as written on a command line or in YAML.

    `512`; `256..1024`, evenly; `normal:512,64`, mean and standard deviation; `lognormal:512,1.0`, median and
    sigma; the last two also with bounds: `normal:512,64,16..2048`.

    Raises:
        ValueError: it is none of these, or a number is out of range.
    """
    if match := _RANGE.fullmatch(text):
        return _uniform(text, int(match[1]), int(match[2] or match[1]))
    if match := _SHAPED.fullmatch(text):
        kind: Literal["normal", "lognormal"] = "normal" if match[1] == "normal" else "lognormal"
        bounds = (int(match[4]), int(match[5])) if match[4] else None
        return _shaped(text, kind, float(match[2]), float(match[3]), bounds)
    shown = text if len(text) <= 60 else f"{text[:60]}..."  # noqa: PLR2004 - what fits a message
    raise ValueError(f"a length must be {_FORMS}, not {shown!r}")


def _uniform(text: str, low: int, high: int) -> Lengths:
    _check_bounds(text, low, high)
    return Lengths(text=text, kind="uniform", centre=(low + high) / 2, spread=0, shortest=low, longest=high)


def _shaped(
    text: str, kind: Literal["normal", "lognormal"], centre: float, spread: float, bounds: tuple[int, int] | None
) -> Lengths:
    if not 1 <= centre <= LENGTH_MAX_TOK:
        name = "mean" if kind == "normal" else "median"
        raise ValueError(f"the {name} of {text} must be from 1 to {LENGTH_MAX_TOK} tokens")
    if spread == 0:
        raise ValueError(f"{text} does not vary: write {centre:g} for a length that is always the same")
    if kind == "lognormal" and spread > _SIGMA_MAX:
        raise ValueError(f"the sigma of {text} is that of the logarithm and must be at most {_SIGMA_MAX}")
    if bounds is not None:
        low, high = bounds
        _check_bounds(text, low, high)
        if not low <= centre <= high:
            raise ValueError(f"{text} has its middle outside of its bounds")
        return Lengths(text=text, kind=kind, centre=centre, spread=spread, shortest=low, longest=high)
    tail = centre + TAIL_Z * spread if kind == "normal" else centre * math.exp(TAIL_Z * spread)
    if tail > LENGTH_MAX_TOK:
        raise ValueError(f"{text} reaches beyond {LENGTH_MAX_TOK} tokens: give it bounds, as in {text},1..4096")
    return Lengths(text=text, kind=kind, centre=centre, spread=spread, shortest=1, longest=math.ceil(tail))


def _check_bounds(text: str, low: int, high: int) -> None:
    if not 1 <= low <= LENGTH_MAX_TOK or not 1 <= high <= LENGTH_MAX_TOK:
        raise ValueError(f"lengths must be from 1 to {LENGTH_MAX_TOK} tokens, not {text}")
    if low > high:
        raise ValueError(f"{text} has its bounds the wrong way round: {low} is more than {high}")
