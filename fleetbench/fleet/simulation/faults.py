"""What goes wrong in a simulated fleet: a few words, each with how often."""

from __future__ import annotations

from dataclasses import dataclass, fields

from fleetbench.catalog.lookup import nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Probabilities, 0 to 1.

    Of every start of a launch: lost: its actor dies; node: its node dies, and is back after a while; fail: the engine
    does not come up; oom: it has too little memory. Of every try of a trial: crash: the engine dies; timeout: it runs
    into its limit. bad: of every node, that no engine ever comes up on it.
    """

    lost: float = 0.0
    node: float = 0.0
    fail: float = 0.0
    oom: float = 0.0
    crash: float = 0.0
    timeout: float = 0.0
    bad: float = 0.0

    def __str__(self) -> str:
        given = ((name, getattr(self, name)) for name in _names())
        return ",".join(f"{name}={value:g}" for name, value in given if value) or "none"


def parse(text: str) -> Faults:
    """Faults out of `lost=0.01,node=0.002`.

    Raises:
        ValueError: an unknown name, one twice, or no probability.
    """
    known = _names()
    found: dict[str, float] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (part.strip() for part in word.partition("="))
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"{name!r} is no known fault ({hint})")
        if name in found:
            raise ValueError(f"{name} stands twice")
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"{word}: a fault is NAME=PROBABILITY, like {name}=0.01") from None
        if not 0 <= found[name] <= 1:
            raise ValueError(f"{word}: a probability is from 0 to 1")
    return Faults(**found)


def _names() -> list[str]:
    return [field.name for field in fields(Faults)]
