"""Finds how prompts of an exact length are made, from what the server itself counts: `usage.prompt_tokens`.

Plans only: a planner yields probes, is sent back the server's count for each, and returns a `Calibration`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from fleetbench_collectors.load.prompts import TokenPrompts, WordPrompts, serialise
from fleetbench_collectors.load.wire import Endpoint
from fleetbench_collectors.load.words import FIRST_WORD, Calibration

NO_USAGE = "the server counts no prompt tokens"
SOME_USAGE = "the server did not count the prompt tokens of every probe"
CONSTANT = "the server's count of prompt tokens does not depend on the prompt"

_NONCE = "calibration"
_OTHER_TOK = 2
_WORDS_MIN = 64
_GROUP = 8
_GROUPED_MAX = 128
_SINGLE_MAX = 64
_REPEATS = 8
_ENOUGH = 16
"""Words of one token: with so many any length can be made, and no larger set of dearer words is better."""
_FILLERS = (" a", ".", " 1", "1", "!", "x")
_VERIFY_MAX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A request to send: `prompt` is what `Wire.payload` takes; one output token will do."""

    prompt: bytes


Planner = Generator[Probe, int | None, Calibration]
"""Is sent the server's count of the probe's prompt tokens, None where the answer has none."""
_Count = Generator[Probe, int | None, int]


class _UncountableError(Exception):
    """The server's counts say nothing; the text says why."""


class _UncountedError(_UncountableError):
    """There is no count."""


def plan_tokens(ids: Sequence[int], *, target_tok: int) -> Planner:
    """A plan for prompts of token ids: one probe, or two or three where the server counts otherwise (BOS).

    Args:
        ids: as for `TokenPrompts`.
        target_tok: the length to verify, best the longest of all.

    Raises:
        ValueError: no ids, or a target below 1.
    """
    _check_target(target_tok)
    source = TokenPrompts(ids, seed=0, nonce=_NONCE, longest_tok=max(target_tok, _OTHER_TOK))
    session = _Session()
    plan = Calibration(
        overhead_tok=0, cost_tok=1, words=(), filler=None, verified=False, off_tok=None, probes=0, reason=None
    )
    try:
        counted = yield from session.count(source.prompt(0, target_tok))
        if counted == target_tok:
            plan = replace(plan, verified=True, off_tok=0)
        else:
            plan = yield from _adapted(plan, session, source, target_tok, counted)
    except _UncountableError as error:
        plan = replace(plan, reason=str(error))
    return replace(plan, probes=session.probes)


def plan_text(words: Sequence[str], *, endpoint: Endpoint, target_tok: int) -> Planner:
    """A plan for prompts of words: three probes where each word is one token, at most 96 elsewhere.

    The server's count is taken for overhead + a cost for each word. Two texts give both. Where words do not
    cost one token on average, they are counted in groups and, if few of these are plain, one by one; the
    largest set of one cost is used, or that of cost one if it has enough words.

    Args:
        words: candidates, of which those are used that a probe had; as many as half the target, at least 64.
        endpoint: that the prompts are for.
        target_tok: the length to verify, best the longest of all.

    Raises:
        ValueError: no words, or a target below 1.
    """
    _check_target(target_tok)
    used = tuple(words[: max(_WORDS_MIN, target_tok // 2)])
    if not used:
        raise ValueError("no words to make prompts of: the vocabulary has none that follow a space")
    session = _Session(endpoint=endpoint)
    plan = Calibration(
        overhead_tok=0, cost_tok=1, words=used, filler=None, verified=False, off_tok=None, probes=0, reason=None
    )
    try:
        plan = yield from _by_slope(plan, session)
        plan = yield from _verified(plan, session, target_tok)
    except _UncountableError as error:
        plan = replace(plan, reason=str(error))
    return replace(plan, probes=session.probes)


class _Session:
    """Asks, and counts how often."""

    __slots__ = ("_counted", "endpoint", "probes")

    def __init__(self, *, endpoint: Endpoint = "completions") -> None:
        self.endpoint: Endpoint = endpoint
        self.probes = 0
        self._counted = False

    def count(self, prompt: bytes) -> _Count:
        self.probes += 1
        counted = yield Probe(prompt=prompt)
        if counted is None:
            raise _UncountedError(SOME_USAGE if self._counted else NO_USAGE)
        self._counted = True
        return counted

    def count_text(self, text: str) -> _Count:
        return self.count(serialise(text, self.endpoint))


def _check_target(target_tok: int) -> None:
    if target_tok < 1:
        raise ValueError(f"a prompt has at least one token, not {target_tok}")


def _text(words: Sequence[str]) -> str:
    return " ".join([FIRST_WORD, *words])


def _adapted(
    plan: Calibration, session: _Session, source: TokenPrompts, target_tok: int, counted: int
) -> Generator[Probe, int | None, Calibration]:
    """The plan for a server that counts not as many tokens as the target prompt has ids."""
    over = counted - target_tok
    if over < 0 or over >= target_tok:
        other = yield from session.count(source.prompt(0, 1 if target_tok > 1 else _OTHER_TOK))
        if other == counted:
            raise _UncountableError(CONSTANT)
    if over < 0:
        return replace(plan, off_tok=over, reason=_miscounted(counted, target_tok))
    plan = replace(plan, overhead_tok=over)
    if target_tok < plan.shortest_tok:
        return replace(plan, reason=plan.too_short(target_tok))
    again = yield from session.count(source.prompt(0, target_tok - over))
    if again == counted:
        raise _UncountableError(CONSTANT)
    if again == target_tok:
        return replace(plan, verified=True, off_tok=0)
    return replace(plan, off_tok=again - target_tok, reason=_miscounted(again, target_tok))


def _by_slope(plan: Calibration, session: _Session) -> Generator[Probe, int | None, Calibration]:
    """The plan by two texts, of each word once and twice."""
    used = plan.words
    try:
        few, many = yield from _once_and_twice(session, used)
    except _UncountedError:
        # Perhaps too long for the server: words may have many tokens.
        used = used[:_GROUP]
        few, many = yield from _once_and_twice(session, used)
    if many == few:
        yield from _check_cut(session, few)
    if many - few == len(used):
        return replace(plan, words=used, overhead_tok=max(few - len(used), 0))
    return (yield from _by_cost(plan, session, slope=(many - few) / len(used)))


def _once_and_twice(session: _Session, used: tuple[str, ...]) -> Generator[Probe, int | None, tuple[int, int]]:
    once = yield from session.count_text(_text(used[::-1]))
    twice = yield from session.count_text(_text(used * 2))
    return once, twice


def _check_cut(session: _Session, counted: int) -> Generator[Probe, int | None, None]:
    """Tells two reasons apart for which a text twice as long has no more tokens."""
    alone = yield from session.count_text(FIRST_WORD)
    if alone == counted:
        raise _UncountableError(CONSTANT)
    raise _UncountableError(f"the server counts no more than {counted} tokens however long the prompt is")


def _by_cost(plan: Calibration, session: _Session, slope: float) -> Generator[Probe, int | None, Calibration]:
    """The plan with the words of one known cost, for words that cost `slope` tokens on average."""
    base = yield from session.count_text(FIRST_WORD)
    words = plan.words[:_GROUPED_MAX]
    groups = [words[first : first + _GROUP] for first in range(0, len(words), _GROUP)]
    plain: list[str] = []
    mixed: list[str] = []
    for group in groups:
        counted = yield from session.count_text(_text(group))
        # No word costs less than one token, so a group that costs one a word has only such.
        (plain if counted - base == len(group) else mixed).extend(group)
    costs = dict.fromkeys(plain, 1)
    if len(plain) < _ENOUGH:
        for word in mixed[:_SINGLE_MAX]:
            counted = yield from session.count_text(_text([word] * _REPEATS))
            cost, left = divmod(counted - base, _REPEATS)
            if cost > 0 and not left:
                costs[word] = cost
    if not costs:
        return replace(plan, overhead_tok=base, cost_tok=max(round(slope), 1))
    sizes = Counter(costs.values())
    cost = 1 if sizes[1] >= _ENOUGH else min(sizes, key=lambda cost: (-sizes[cost], cost))
    chosen = tuple(word for word in words if costs.get(word) == cost)
    plan = replace(plan, overhead_tok=base, cost_tok=cost, words=chosen)
    if cost == 1:
        return plan
    cheap = [f" {word}" for word in words if costs.get(word) == 1][:1]
    filler = yield from _filler(plan, session, [*cheap, *_FILLERS])
    return replace(plan, filler=filler)


def _filler(
    plan: Calibration, session: _Session, candidates: Sequence[str]
) -> Generator[Probe, int | None, str | None]:
    """The first text that costs one token each time that it is put behind a word."""
    most = plan.cost_tok - 1
    for candidate in candidates:
        counted = yield from session.count_text(_text(plan.words[:1]) + candidate * most)
        if counted == plan.overhead_tok + plan.cost_tok + most:
            return candidate
    return None


def _verified(plan: Calibration, session: _Session, target_tok: int) -> Generator[Probe, int | None, Calibration]:
    """The plan, tried at the target; its overhead is corrected where that helps.

    One text of the right length is enough for a plan as it came, two in a row for one that was corrected.
    """
    best: Calibration | None = None
    needed, exact = 1, 0
    for number in range(_VERIFY_MAX):
        if target_tok < plan.shortest_tok:
            break
        source = WordPrompts(plan, endpoint=session.endpoint, seed=0, nonce=f"{_NONCE}{number}", longest_tok=target_tok)
        counted = yield from session.count(source.prompt(0, target_tok))
        made_tok = plan.length_tok(target_tok)
        if counted == made_tok:
            exact += 1
            if exact == needed:
                return _judged(plan, counted, target_tok)
            continue
        if best is None or abs(counted - target_tok) < abs(best.off_tok or 0):
            best = replace(plan, off_tok=counted - target_tok, reason=_miscounted(counted, target_tok))
        needed, exact = 2, 0
        plan = replace(plan, overhead_tok=max(plan.overhead_tok + counted - made_tok, 0))
    return best or replace(plan, reason=plan.too_short(target_tok))


def _judged(plan: Calibration, counted: int, target_tok: int) -> Calibration:
    """The plan whose count came out as it should: exact, but where there is no filler for what is left over."""
    if counted == target_tok:
        return replace(plan, verified=True, off_tok=0)
    reason = f"{_miscounted(counted, target_tok)}: words have {plan.cost_tok} tokens, and no text has only one"
    return replace(plan, off_tok=counted - target_tok, reason=reason)


def _miscounted(counted: int, target_tok: int) -> str:
    return f"the server counts {counted} tokens where {target_tok} were asked for"
