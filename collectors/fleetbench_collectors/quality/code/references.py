"""Right solutions of the code items, from which the hidden tests' values come.

Each stands alone (no import, no helper), so that the tests of this suite can send its text through the sandbox too.
"""

from __future__ import annotations

from typing import Any


def every_nth(values: list[int], *, start: int, step: int) -> list[int]:
    return [value for i, value in enumerate(values) if i >= start and (i - start) % step == 0]


def count_above(values: list[int], *, bound: int, weight: int) -> int:
    return sum(weight if value % 2 == 0 else 1 for value in values if value > bound)


def shift_letters(text: str, *, shift: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return "".join(letters[(letters.index(c) + shift) % 26] if c in letters else c for c in text)


def bounded_sum(values: list[int], *, low: int, high: int) -> int:
    return sum(min(max(value, low), high) for value in values)


def swap_parts(text: str, *, old: str, new: str) -> str:
    return new.join(part for part in reversed(text.split(old)) if part)


def tally(words: list[str], *, shortest: int) -> dict[str, int]:
    out: dict[str, int] = {}
    for word in words:
        if len(word) >= shortest:
            out[word.lower()] = out.get(word.lower(), 0) + 1
    return out


def weigh_digits(number: int, *, weight: int, modulus: int) -> int:
    return sum(int(digit) * (weight if i % 2 else 1) for i, digit in enumerate(reversed(str(abs(number))))) % modulus


def longest_run(values: list[int], *, jump: int) -> int:
    best = length = 0
    for i, value in enumerate(values):
        length = length + 1 if i and abs(value - values[i - 1]) <= jump else 1
        best = max(best, length)
    return best


def window_spreads(values: list[int], *, width: int) -> list[int]:
    windows = [values[i : i + width] for i in range(len(values) - width + 1)]
    return [max(window) - min(window) for window in windows]


def left_to_right(text: str, *, factor: int) -> int:
    total, operator, number = 0, "+", ""
    for char in text + "+":
        if char.isdigit():
            number += char
            continue
        value = int(number)
        changed = {"+": total + value, "-": total - value, "*": total * value, "@": factor * total + value}
        total, operator, number = changed[operator], char, ""
    return total


def flatten(values: list[Any], *, depth: int) -> list[int]:
    out: list[int] = []
    for value in values:
        if not isinstance(value, list):
            out.append(value)
        elif depth == 0:
            out.append(len(value))
        else:
            out += flatten(value, depth=depth - 1)
    return out


def join_spans(spans: list[list[int]], *, gap: int) -> list[list[int]]:
    out: list[list[int]] = []
    for low, high in sorted(spans):
        if out and low - out[-1][1] <= gap:
            out[-1][1] = max(out[-1][1], high)
        else:
            out.append([low, high])
    return out


def read_settings(text: str, *, between: str, mark: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for part in text.split(between):
        key, found, value = part.strip().partition(mark)
        if not key.strip() or key.strip() in out:
            continue
        value = value.strip()
        out[key.strip()] = (int(value) if value.isdigit() else value) if found else None
    return out


def unpack(text: str, *, most: int) -> str:
    out, count = "", ""
    for char in text:
        if char.isdigit():
            count += char
        else:
            out += char * min(int(count or "1"), most)
            count = ""
    return out


def write_number(number: int, *, digits: str, sign: str) -> str:
    left, out = abs(number), ""
    while left or not out:
        left, i = divmod(left, len(digits))
        out = digits[i] + out
    return (sign if number < 0 else "") + out


def group_words(words: list[str], *, modulus: int) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for word in sorted(set(words)):
        out.setdefault(str(len(word) % modulus), []).append(word)
    return out
