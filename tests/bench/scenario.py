"""What is asked of each tool, and how the server plays it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

Variant = Literal["user stamps", "2 processes"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

PROMPT_TOK = 64
_PACE = {"ttft_us": 50_000, "itl_us": 10_000}
_QUICK = ("flood-64", "coalesced-64", "paced-256")
_QUICK_SHARE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`streams` requests at once, of `output_tok` tokens each; knobs: of the truth server; variants: of our tool."""

    name: str
    title: str
    streams: int
    output_tok: int
    knobs: Mapping[str, int] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()

    @property
    def paced(self) -> bool:
        return "itl_us" in self.knobs


SCENARIOS = (
    Scenario(
        name="flood-64",
        title="flood, one token a write",
        streams=64,
        output_tok=5_000,
        variants=VARIANTS,
    ),
    Scenario(
        name="flood-512",
        title="flood, one token a write",
        streams=512,
        output_tok=1_000,
        variants=VARIANTS,
    ),
    Scenario(
        name="coalesced-64",
        title="flood, 16 tokens' events a write",
        streams=64,
        output_tok=20_000,
        knobs={"events_per_write": 16},
    ),
    Scenario(name="paced-256", title="TTFT 50 ms, ITL 10 ms", streams=256, output_tok=500, knobs=_PACE),
    Scenario(
        name="paced-1000",
        title="TTFT 50 ms, ITL 10 ms",
        streams=1_000,
        output_tok=500,
        knobs=_PACE,
        variants=VARIANTS,
    ),
)


def quick() -> tuple[Scenario, ...]:
    """Three of them with shorter answers: does it work, not how fast is it."""
    return tuple(
        replace(scenario, output_tok=scenario.output_tok // _QUICK_SHARE)
        for scenario in SCENARIOS
        if scenario.name in _QUICK
    )
