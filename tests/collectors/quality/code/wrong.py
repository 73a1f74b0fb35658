"""Typical wrong solutions of each template: one off, the wrong type, an edge forgotten."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

WRONG: dict[str, list[Callable[..., Any]]] = {
    "every_nth": [
        lambda values, *, start, step: values[start - 1 :: step],
        lambda values, *, start, step: values[::step][start:],
        lambda values, *, start, step: tuple(values[start::step]),
    ],
    "count_above": [
        lambda values, *, bound, weight: sum(weight if v % 2 == 0 else 1 for v in values if v >= bound),
        lambda values, *, bound, weight: sum(1 for v in values if v > bound),  # noqa: ARG005  what is wrong with it
    ],
    "shift_letters": [
        lambda text, *, shift: "".join(chr(ord(c) + shift) if c.islower() else c for c in text),
        lambda text, *, shift: "".join(
            chr((ord(c.lower()) - 97 + shift) % 26 + 97) if c.isalpha() else c for c in text
        ),
    ],
    "bounded_sum": [
        lambda values, *, low, high: min(max(sum(values), low), high),
        lambda values, *, low, high: sum(v for v in values if low <= v <= high),
        lambda values, *, low, high: float(sum(min(max(v, low), high) for v in values)),
    ],
    "swap_parts": [
        lambda text, *, old, new: new.join(reversed(text.split(old))),
        lambda text, *, old, new: new.join(part for part in text.split(old) if part),
    ],
    "tally": [
        lambda words, *, shortest: dict(Counter(w.lower() for w in words if len(w) > shortest)),
        lambda words, *, shortest: dict(Counter(w for w in words if len(w) >= shortest)),
        lambda words, *, shortest: Counter(w.lower() for w in words if len(w) >= shortest),
    ],
    "weigh_digits": [
        lambda number, *, weight, modulus: (
            sum(int(d) * (1 if i % 2 else weight) for i, d in enumerate(reversed(str(abs(number))))) % modulus
        ),
        lambda number, *, weight, modulus: (
            sum(int(d) * (weight if i % 2 else 1) for i, d in enumerate(str(abs(number)))) % modulus
        ),
    ],
    "longest_run": [
        lambda values, *, jump: sum(abs(b - a) <= jump for a, b in pairwise(values)) + 1 if values else 0,
        lambda values, *, jump: _longest(values, jump - 1),
    ],
    "window_spreads": [
        lambda values, *, width: [max(values[i : i + width]) - min(values[i : i + width]) for i in range(len(values))],
        lambda values, *, width: [abs(values[i + width - 1] - values[i]) for i in range(len(values) - width + 1)],
    ],
    "left_to_right": [
        lambda text, *, factor: _reckon(text.replace("@", f"*{factor}+")),
        lambda text, *, factor: factor * sum(map(int, re.findall(r"\d+", text))),
    ],
    "flatten": [
        lambda values, *, depth: [v if isinstance(v, int) else len(v) for v in values],  # noqa: ARG005  as above
        lambda values, *, depth: _flat(values, depth - 1),
    ],
    "join_spans": [
        lambda spans, *, gap: _join(spans, gap - 1),
        lambda spans, *, gap: [list(span) for span in sorted(spans)],  # noqa: ARG005  as above
    ],
    "read_settings": [
        lambda text, *, between, mark: {
            part.split(mark)[0].strip(): part.split(mark)[-1].strip() for part in text.split(between)
        },
        lambda text, *, between, mark: dict.fromkeys(
            part.split(mark)[0].strip() for part in text.split(between) if part.strip()
        ),
    ],
    "unpack": [
        lambda text, *, most: re.sub(r"(\d*)([a-z])", lambda m: m[2] * int(m[1] or 1), text),  # noqa: ARG005  as above
        lambda text, *, most: re.sub(r"(\d?)([a-z])", lambda m: m[2] * min(int(m[1] or 1), most), text),
    ],
    "write_number": [
        lambda number, *, digits, sign: _write(number, digits, sign) if number else "",
        lambda number, *, digits, sign: _write(abs(number), digits, sign) or digits[0],
    ],
    "group_words": [
        lambda words, *, modulus: {str(r): sorted({w for w in words if len(w) % modulus == r}) for r in range(modulus)},
        lambda words, *, modulus: {
            str(len(w) % modulus): sorted(v for v in words if len(v) % modulus == len(w) % modulus) for w in words
        },
    ],
}


def _longest(values: list[int], jump: int) -> int:
    best = length = 1 if values else 0
    for one, other in pairwise(values):
        length = length + 1 if abs(other - one) <= jump else 1
        best = max(best, length)
    return best


def _reckon(text: str) -> int:
    """With * before + and -, as Python would have it."""
    total = 0
    for sign, product in re.findall(r"([+-]?)([\d*]+)", text):
        value = 1
        for number in product.split("*"):
            value *= int(number)
        total += -value if sign == "-" else value
    return total


def _flat(values: list[Any], depth: int) -> list[int]:
    out: list[int] = []
    for value in values:
        if isinstance(value, int):
            out.append(value)
        else:
            out += _flat(value, depth - 1) if depth > 0 else [len(value)]
    return out


def _join(spans: list[list[int]], gap: int) -> list[list[int]]:
    out: list[list[int]] = []
    for low, high in sorted(spans):
        if out and low - out[-1][1] <= gap:
            out[-1][1] = max(out[-1][1], high)
        else:
            out.append([low, high])
    return out


def _write(number: int, digits: str, sign: str) -> str:
    if number < 0:
        return sign + _write(-number, digits, sign)
    return (_write(number // len(digits), digits, sign) + digits[number % len(digits)]) if number else ""
