"""Which axis may be at fault: patterns of what was lost, as hints with their evidence and the run that would tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fleetbench.judge.parity.gate import Answer, Answers
from fleetbench.judge.parity.losses import Asked, Loss, at_most, loses_less, loss, match, regressed
from fleetbench.judge.parity.verdict import ALPHA, holm
from fleetbench.matrix.types import Recipe

Axis = Literal["weights", "activations", "kv"]
Part = Literal["recall", "reading", "knowledge", "tools", "code", "chat", "head", "tail", "short", "long"]

ROLES: Mapping[str, tuple[Part, ...]] = {
    # Category of a suite: what it stands for. Recall is what weights hold or work out, from a prompt that says little;
    # reading gives back what stands in the prompt. What is not here (json) tells no axis from another.
    "facts": ("recall", "knowledge"),
    "addition": ("recall",),
    "arithmetic": ("recall",),
    "word_problem": ("recall",),
    "copy": ("reading",),
    "needle": ("reading",),
    "tool_call": ("tools",),
    "code": ("code",),
    "language": ("chat", "knowledge"),
    "instruction": ("chat",),
    "refusal": ("chat",),
}
STRATA: Mapping[str, Part] = {"head": "head", "tail": "tail"}
SPARED = 0.5
"""Spared is what loses less than so much of the share that another part does. Where it comes from: see the README."""
LONG_TOK, SPAN = 500, 4
"""Lengths of a category are compared where its longest prompt has so many tokens, and so many times the shortest's."""
COLLAPSED = 0.8
"""Of all that the reference has right: who lost so much has no part left that could be spared."""
NO_PATTERN = "no pattern of losses stands out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """What a pattern speaks for; axes: those it may be; cure: what to try where one of them is all that was changed."""

    what: str
    axes: tuple[Axis, ...]
    cure: str


_KV = Suspect(what="the KV cache", axes=("kv",), cure="keys alone, values alone, or a scale for each head")
_LOW_BIT = Suspect(
    what="weights or activations of few bits", axes=("weights", "activations"), cure="smaller groups or more bits"
)
_RARE = Suspect(
    what="weights where the vocabulary is rare",
    axes=("weights",),
    cure="lm_head and embeddings protected, or a calibration that holds tool calls and rare facts",
)
_ACTIVATIONS = Suspect(what="activations", axes=("activations",), cure="weights alone, or rotated activations")
_OUTLIERS = Suspect(
    what="outlier channels or their scales",
    axes=("activations", "weights", "kv"),
    cure="finer scales (per channel, smaller groups), or rotation (QuaRot, SpinQuant)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A suspicion, never a finding.

    evidence: what speaks for it, in words; chance: of the strongest pattern, where there is none (Holm over all that
    were looked for); changed: those of the suspect's axes that the recipe changed, None where recipes are not known;
    recipes: the next experiments, where any can be named; next: them in words.
    """

    suspect: Suspect
    evidence: tuple[str, ...]
    chance: float
    changed: tuple[Axis, ...] | None
    recipes: tuple[Recipe, ...]
    next: str

    @property
    def text(self) -> str:
        return f"may be {self.suspect.what}: {'; '.join(self.evidence)}. Next: {self.next}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    suspect: Suspect
    chance: float
    evidence: str


def hints(
    reference: Sequence[Answers], candidate: Sequence[Answers], *, recipes: tuple[Recipe, Recipe] | None = None
) -> tuple[Hint, ...]:
    """What the pattern of losses speaks for, the clearest first; none where nothing stands out.

    A pattern is one claim of several parts (this regressed, that lost less than half as much), as unlikely as its
    weakest part; over all patterns that the items allow to look for, claims hold together at `ALPHA` (Holm).

    Args:
        reference: its runs, one at least.
        candidate: its runs, one at least.
        recipes: the reference's and the candidate's, where they are known.
    """
    asked = match(reference, candidate)
    whole = loss(asked)
    if whole is None or whole.share > COLLAPSED:
        return ()
    parts = _parts(asked)
    looked = [one for one in (*_contrasts(parts), _spikes(asked)) if one is not None]
    chances = holm({str(number): one.chance for number, one in enumerate(looked)})
    shown = [replace(one, chance=chances[str(number)]) for number, one in enumerate(looked)]
    by_suspect: dict[str, list[_Found]] = {}
    for one in sorted(shown, key=lambda one: (one.chance, one.evidence)):
        if one.chance <= ALPHA:
            by_suspect.setdefault(one.suspect.what, []).append(one)
    return tuple(_hint(found, recipes) for found in by_suspect.values())


def _parts(asked: Sequence[Asked]) -> dict[Part, tuple[str, Loss]]:
    """Items by what they stand for: how that is called here, and what was lost of it."""
    members: dict[Part, list[Asked]] = {}
    lengths: dict[str, list[int]] = {}
    for one in asked:
        lengths.setdefault(one.item.category, []).append(one.item.context_tok)
    for one in asked:
        item = one.item
        parts = list(ROLES.get(item.category, ()))
        if item.stratum is not None and item.stratum in STRATA and "knowledge" in parts:
            parts.append(STRATA[item.stratum])
        least, most = max(1, min(lengths[item.category])), max(lengths[item.category])
        if most >= LONG_TOK and most >= SPAN * least:
            parts.append("long" if item.context_tok > math.sqrt(least * most) else "short")
        for part in parts:
            members.setdefault(part, []).append(one)
    return {part: (_name(part, items), found) for part, items in members.items() if (found := loss(items))}


def _name(part: Part, asked: Sequence[Asked]) -> str:
    categories = " and ".join(sorted({one.item.category for one in asked}))
    if part in {"long", "short"}:
        tok = [one.item.context_tok for one in asked]
        return f"{categories} of {min(tok)} to {max(tok)} tokens"
    return f"the {part} of {categories}" if part in {"head", "tail"} else categories


def _contrasts(parts: Mapping[Part, tuple[str, Loss]]) -> list[_Found | None]:
    return [
        _contrast(parts, _LOW_BIT, down="recall", spared=("reading",)),
        _contrast(parts, _KV, down="reading", above="recall"),
        _contrast(parts, _KV, down="long", spared=("short",), above="recall"),
        _contrast(parts, _RARE, down="tools", spared=("knowledge",), unlike=("reading",)),
        _contrast(parts, _RARE, down="tail", spared=("head",), unlike=("reading",)),
        _contrast(parts, _ACTIVATIONS, down="code", spared=("chat",)),
    ]


def _contrast(
    parts: Mapping[Part, tuple[str, Loss]],
    suspect: Suspect,
    *,
    down: Part,
    spared: tuple[Part, ...] = (),
    unlike: tuple[Part, ...] = (),
    above: Part | None = None,
) -> _Found | None:
    """A pattern: one part regressed, some were spared beside it, and none that speaks otherwise was hit far harder.

    spared: have to be asked; unlike: spared too, where they were asked; above: `down` is not spared beside it. None
    where the items do not allow to look.
    """
    wanted = (down, *spared, *([above] if above else []))
    if any(part not in parts for part in wanted):
        return None
    name, fell = parts[down]
    beside = [parts[part] for part in (*spared, *unlike) if part in parts]
    chances = [regressed(fell), *(loses_less(other, fell, ratio=SPARED) for _, other in beside)]
    if above:
        beside.append(parts[above])
        chances.append(loses_less(parts[above][1], fell, ratio=1 / SPARED))
    said = [f"{name} lost {_share(fell)}", *(f"{other} {_share(lost)}" for other, lost in beside)]
    return _Found(suspect=suspect, chance=max(chances), evidence=", ".join(said))


def _share(found: Loss) -> str:
    return f"{found.pairs.lost:.0f} of {found.right:.0f} ({100 * found.share:.0f} %)"


def _spikes(asked: Sequence[Asked]) -> _Found | None:
    """More answers that are none, and no category that holds half of them: losses that do not follow what was asked."""
    whole = loss(asked, _sound)
    struck: dict[str, int] = {}
    for one in asked:
        if all(map(_sound, one.before)) and not any(map(_sound, one.after)):
            struck[one.item.category] = struck.get(one.item.category, 0) + 1
    if whole is None or not struck:
        return None
    total, most = sum(struck.values()), max(struck.values())
    kinds = ", ".join(sorted({said.degenerate for one in asked for said in one.after if said.degenerate}))
    return _Found(
        suspect=_OUTLIERS,
        chance=max(regressed(whole), at_most(most, total, 0.5)),
        evidence=f"{total} answers became {kinds}, at most {most} of them in one of {len(struck)} categories",
    )


def _sound(answer: Answer) -> bool:
    return answer.degenerate is None


def _hint(found: Sequence[_Found], recipes: tuple[Recipe, Recipe] | None) -> Hint:
    suspect = found[0].suspect
    changed = None if recipes is None else changed_axes(*recipes)
    experiments, following = _next(suspect, changed, recipes)
    return Hint(
        suspect=suspect,
        evidence=tuple(one.evidence for one in found),
        chance=found[0].chance,
        changed=None if changed is None else tuple(axis for axis in suspect.axes if axis in changed),
        recipes=experiments,
        next=following,
    )


def changed_axes(reference: Recipe, candidate: Recipe) -> tuple[Axis, ...]:
    """The axes whose formats differ between two recipes."""
    axes: tuple[Axis, ...] = ("weights", "activations", "kv")
    return tuple(axis for axis in axes if getattr(reference, axis) != getattr(candidate, axis))


def single_axis(reference: Recipe, candidate: Recipe, axis: Axis) -> Recipe:
    """The reference with one axis of the candidate, and all that belongs to that axis."""
    only = replace(reference, name=f"{candidate.name}-{axis}-only")
    if axis == "kv":
        return replace(only, kv=candidate.kv)
    if axis == "activations":
        return replace(only, activations=candidate.activations, scales=candidate.scales)
    return replace(
        only,
        weights=candidate.weights,
        method=candidate.method,
        group_size=candidate.group_size,
        calibration=candidate.calibration,
        protect=candidate.protect,
    )


def _next(
    suspect: Suspect, changed: tuple[Axis, ...] | None, recipes: tuple[Recipe, Recipe] | None
) -> tuple[tuple[Recipe, ...], str]:
    """The runs that would tell, as recipes where they can be named, and in words."""
    if recipes is None or changed is None:
        return (), f"run {' and '.join(f'{axis} only' for axis in suspect.axes)}, the rest as in the reference"
    mine = [axis for axis in suspect.axes if axis in changed]
    if not mine:
        others = " or ".join(changed) or "nothing that is known"
        return (), (
            f"this recipe leaves {' and '.join(suspect.axes)} as in the reference: see in the effective configuration"
            f" that it was so; if it was, what it changed ({others}) shows in this pattern too"
        )
    if changed == (mine[0],):
        return (), f"this recipe changes {mine[0]} alone, so try {suspect.cure}"
    alone = tuple(single_axis(*recipes, axis) for axis in mine)
    said = (f"{one.name} (weights {one.weights}, activations {one.activations}, KV {one.kv})" for one in alone)
    return alone, f"run {' and '.join(said)}"
