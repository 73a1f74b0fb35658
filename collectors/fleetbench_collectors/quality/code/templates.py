"""What the code items ask for: words, parameters and arguments of each kind of function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from fleetbench_collectors.quality.code import references

Parameters = dict[str, Any]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WORDS = ("Tin", "tin", "oak", "Oak", "reed", "Reed", "ash", "maple", "Elm", "elm", "a", "io", "willow", "Willow", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One kind of function; its `edges` are argument lists that every item of it is tested with."""

    stratum: Literal["easy", "hard"]
    signature: str
    words: str
    reference: Callable[..., Any]
    choose: Callable[[Random], Parameters]
    draw: Callable[[Random, Parameters], list[Any]]
    edges: Callable[[Parameters], Sequence[list[Any]]]

    @property
    def name(self) -> str:
        return self.reference.__name__


def _integers(rng: Random, low: int = -20, high: int = 20) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(4, 12))]


def _lists(rng: Random, _: Parameters) -> list[Any]:
    return [_integers(rng)]


def _nested(rng: Random, depth: int) -> list[Any]:
    return [
        _nested(rng, depth - 1) if depth and rng.random() < 0.4 else rng.randint(0, 9)  # noqa: PLR2004  a share
        for _ in range(rng.randint(1, 4))
    ]


def _expression(rng: Random) -> str:
    text = str(rng.randint(0, 30))
    for _ in range(rng.randint(1, 5)):
        text += rng.choice("+-*@") + str(rng.randint(0, 12))
    return text


def _settings(rng: Random, at: Parameters) -> str:
    pairs = [
        rng.choice(("host", "port", "mode", "x")) + at["mark"] + rng.choice(("7", "12", "fast", "", " 3 "))
        for _ in range(rng.randint(1, 4))
    ]
    return f" {at['between']} ".join(pairs + rng.sample(["flag", "", " "], 1))


def _packed(rng: Random) -> str:
    return "".join(rng.choice(("", "2", "3", "10", "15")) + rng.choice(_LETTERS[:6]) for _ in range(rng.randint(2, 6)))


def _spans(rng: Random) -> list[list[int]]:
    starts = [rng.randint(-10, 30) for _ in range(rng.randint(2, 6))]
    return [[low, low + rng.randint(0, 8)] for low in starts]


TEMPLATES = (
    Template(
        stratum="easy",
        signature="values",
        words="`values` is a list of integers. Return a list of the items at the positions {start}, {start} + "
        "{step}, {start} + 2 * {step} and so on, where the first item has position 0.",
        reference=references.every_nth,
        choose=lambda rng: {"start": rng.randint(1, 4), "step": rng.randint(2, 5)},
        draw=_lists,
        edges=lambda at: [[[]], [list(range(at["start"]))], [list(range(at["start"] + at["step"] + 1))]],
    ),
    Template(
        stratum="easy",
        signature="values",
        words="`values` is a list of integers. Only those strictly greater than {bound} matter: an odd one counts "
        "1, an even one counts {weight}. Return the total of these counts.",
        reference=references.count_above,
        choose=lambda rng: {"bound": rng.randint(-5, 9), "weight": rng.randint(2, 9)},
        draw=_lists,
        edges=lambda at: [[[]], [[at["bound"]]], [[at["bound"] + 1, at["bound"], at["bound"] + 2]]],
    ),
    Template(
        stratum="easy",
        signature="text",
        words="Move every lower-case letter a to z of the string `text` forward by {shift} places in the alphabet, "
        "going on at a after z. All other characters stay as they are. Return the new string.",
        reference=references.shift_letters,
        choose=lambda rng: {"shift": rng.randint(2, 24)},
        draw=lambda rng, _: ["".join(rng.choice(_LETTERS + "AZ 9-") for _ in range(rng.randint(5, 15)))],
        edges=lambda _: [[""], ["xyz abc"], ["NO, 42!"]],
    ),
    Template(
        stratum="easy",
        signature="values",
        words="`values` is a list of integers. Raise each one below {low} to {low} and lower each one above {high} "
        "to {high}; return the sum of the results.",
        reference=references.bounded_sum,
        choose=lambda rng: {"low": rng.randint(-9, -2), "high": rng.randint(3, 12)},
        draw=_lists,
        edges=lambda at: [[[]], [[at["low"] - 1, at["high"] + 1]], [[at["low"] - 5]], [[at["high"] + 7]]],
    ),
    Template(
        stratum="easy",
        signature="text",
        words="Cut the string `text` at every {old!r}, drop the empty parts, put the others in reverse order, and "
        "join them with {new!r}. Return the new string.",
        reference=references.swap_parts,
        choose=lambda rng: {"old": rng.choice(("-", "/", "::", "|")), "new": rng.choice((", ", "+", " ", "__"))},
        draw=lambda rng, at: [at["old"].join(rng.choice(_WORDS) for _ in range(rng.randint(2, 6)))],
        edges=lambda at: [[""], [at["old"]], ["a" + at["old"] * 2 + "b"], [at["old"] + "a b" + at["old"]]],
    ),
    Template(
        stratum="easy",
        signature="words",
        words="`words` is a list of strings. Return a dictionary from each word of at least {shortest} characters, "
        "in lower case, to how often it occurs; upper and lower case do not differ.",
        reference=references.tally,
        choose=lambda rng: {"shortest": rng.randint(2, 5)},
        draw=lambda rng, _: [[rng.choice(_WORDS) for _ in range(rng.randint(4, 12))]],
        edges=lambda at: [[[]], [["x" * at["shortest"], "X" * at["shortest"], "x" * (at["shortest"] - 1)]]],
    ),
    Template(
        stratum="easy",
        signature="number",
        words="`number` is an integer; its sign does not matter. Going from its last digit to its first, multiply "
        "the second, fourth, sixth ... digit by {weight} and the others by 1; return the sum modulo "
        "{modulus}.",
        reference=references.weigh_digits,
        choose=lambda rng: {"weight": rng.randint(3, 9), "modulus": rng.choice((7, 11, 13, 17))},
        draw=lambda rng, _: [rng.randint(-999999, 999999)],
        edges=lambda _: [[0], [-7], [10], [-123456], [999999]],
    ),
    Template(
        stratum="hard",
        signature="values",
        words="`values` is a list of integers. Return the length of its longest unbroken stretch in which each item"
        " differs from the one before it by at most {jump}; 0 for an empty list.",
        reference=references.longest_run,
        choose=lambda rng: {"jump": rng.randint(2, 9)},
        draw=_lists,
        edges=lambda at: [
            [[]],
            [[5]],
            [[0, at["jump"], 2 * at["jump"]]],
            [[99, 0, at["jump"], 0]],
            [[0, at["jump"] + 1]],
        ],
    ),
    Template(
        stratum="hard",
        signature="values",
        words="`values` is a list of integers. For every {width} consecutive items, from left to right, take the "
        "largest minus the smallest; return the list of these differences, empty where `values` has fewer "
        "than {width} items.",
        reference=references.window_spreads,
        choose=lambda rng: {"width": rng.randint(3, 5)},
        draw=_lists,
        edges=lambda at: [[[]], [list(range(at["width"]))], [list(range(at["width"] - 1))], [[3] * (at["width"] + 1)]],
    ),
    Template(
        stratum="hard",
        signature="text",
        words="`text` holds non-negative integers with one of the operators + - * @ between each two, without "
        "spaces. Work it out strictly from left to right, no operator before another; `a@b` means {factor} * "
        "a + b. Return the integer.",
        reference=references.left_to_right,
        choose=lambda rng: {"factor": rng.randint(2, 9)},
        draw=lambda rng, _: [_expression(rng)],
        edges=lambda _: [["7"], ["0"], ["2+3*4"], ["1-5@2"], ["10-3-2"]],
    ),
    Template(
        stratum="hard",
        signature="values",
        words="`values` is a list of integers and lists, which hold integers and lists in turn. Return one flat "
        "list, in order, of all integers that are inside at most {depth} lists within `values`; a list that "
        "lies deeper is replaced by how many items it has itself, and not looked into.",
        reference=references.flatten,
        choose=lambda rng: {"depth": rng.randint(1, 3)},
        draw=lambda rng, _: [_nested(rng, 5)],
        edges=lambda _: [[[]], [[1, [], 2]], [[1, [2, [3, [4, [5, [6, 7]]]]]]], [[[[[[]]]], 8]]],
    ),
    Template(
        stratum="hard",
        signature="spans",
        words="`spans` is a list of lists [low, high] of integers, low <= high, in any order. Join two of them "
        "whenever the next one's low is at most {gap} above the other's high, or within it. Return the joined"
        " spans as lists [low, high], ascending.",
        reference=references.join_spans,
        choose=lambda rng: {"gap": rng.randint(1, 4)},
        draw=lambda rng, _: [_spans(rng)],
        edges=lambda at: [
            [[]],
            [[[0, 9], [2, 3], [9 + at["gap"], 20]]],
            [[[5, 6], [0, 4 - at["gap"]]]],
            [[[0, 1], [2 + at["gap"], 9]]],
        ],
    ),
    Template(
        stratum="hard",
        signature="text",
        words="`text` holds settings that are separated by {between!r}. Each is a key, {mark!r} and a value, or a "
        "key alone; spaces around keys and values do not count, and a setting without a key is passed over. "
        "Return a dictionary: a value that consists of digits only as an integer, any other (also an empty "
        "one) as a string, None for a key alone. Where a key comes more than once, the first one holds.",
        reference=references.read_settings,
        choose=lambda rng: {"between": rng.choice((";", ",", "&")), "mark": rng.choice(("=", ":", "~"))},
        draw=lambda rng, at: [_settings(rng, at)],
        edges=lambda at: [
            [""],
            ["a{mark}1{between}a{mark}2".format(**at)],
            ["k{mark}v{mark}w{between} b ".format(**at)],
        ],
    ),
    Template(
        stratum="hard",
        signature="text",
        words="`text` is a string of letters, each perhaps with a decimal number before it that says how often it "
        "is to be repeated (without a number: once). No letter is repeated more than {most} times, whatever "
        "its number says. Return the unpacked string.",
        reference=references.unpack,
        choose=lambda rng: {"most": rng.randint(4, 12)},
        draw=lambda rng, _: [_packed(rng)],
        edges=lambda at: [[""], ["a"], ["0ab"], [f"{at['most'] + 1}x{at['most']}y"], ["12c3d"]],
    ),
    Template(
        stratum="hard",
        signature="number",
        words="Write the integer `number` in a number system whose digits are, from zero upwards, the characters of"
        " {digits!r}. Put {sign!r} in front of a negative one, and no needless zeros. Return the string.",
        reference=references.write_number,
        choose=lambda rng: {"digits": "".join(rng.sample(_LETTERS, rng.randint(3, 7))), "sign": rng.choice("~!#_")},
        draw=lambda rng, _: [rng.randint(-5000, 5000)],
        edges=lambda at: [[0], [-1], [len(at["digits"])], [-(len(at["digits"]) ** 2)], [len(at["digits"]) - 1]],
    ),
    Template(
        stratum="hard",
        signature="words",
        words="`words` is a list of strings. Return a dictionary that groups them by their length modulo {modulus}:"
        " the keys are these remainders as strings, each value the list of the group's different words in "
        "ascending order of Python's comparison of strings. No group is empty.",
        reference=references.group_words,
        choose=lambda rng: {"modulus": rng.randint(2, 5)},
        draw=lambda rng, _: [[rng.choice(_WORDS) for _ in range(rng.randint(4, 10))]],
        edges=lambda _: [[[]], [[""]], [["b", "a", "b", "B"]]],
    ),
)
