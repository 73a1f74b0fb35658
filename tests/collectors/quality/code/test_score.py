from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.quality.code.ending import Ending
from fleetbench_collectors.quality.code.items import CodeItem
from fleetbench_collectors.quality.code.score import Kind, judge, same, take_code

ITEM = CodeItem(
    item_id="0",
    category="code",
    stratum="easy",
    cluster="double",
    prompt="Write `double(n)`.",
    entry="double",
    parameters={},
    calls=([1], [2], [3]),
    expected=(2, 4, 6),
)
RIGHT = b'{"value": 2}\n{"value": 4}\n{"value": 6}\n'
CODE = "def double(n):\n    return 2 * n\n"


@pytest.mark.parametrize(
    "answer",
    [
        CODE,
        f"```python\n{CODE}```",
        f"Sure:\n\n```py\n{CODE}```\nIt doubles.",
        f"```\n{CODE}```",
        f"``` Python\r\n{CODE}```\r\n",
        "double = lambda n: 2 * n",
    ],
)
def test_code_is_taken_from_one_fenced_block_or_from_the_whole_answer(answer: str) -> None:
    code = take_code("double", answer)
    assert code is not None
    assert "```" not in code
    assert "double" in code


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I cannot help with that.",
        "It would double the number: 2 * n.",
        "def triple(n):\n    return 3 * n\n",
        "class A:\n    def double(n):\n        return 2 * n\n",
        f"```python\n{CODE}",
        f"```python\n{CODE}```\nor\n```python\n{CODE}```",
        f"```javascript\n{CODE}```",
        f"```python\nprint(1)\n```\n{CODE}",
        f"{CODE}\n```python\nprint(1)\n```",
    ],
)
def test_an_answer_without_one_clear_piece_of_code_has_none(answer: str) -> None:
    assert take_code("double", answer) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        ("1", 1),
        (None, False),
        ([], {}),
        ([1], [True]),
        ({"a": 1}, {"a": 1.0}),
        ([1], [1, 2]),
        ({}, {"a": 1}),
    ],
)
def test_values_of_another_type_or_size_are_not_the_same(one: object, other: object) -> None:
    assert not same(one, other)
    assert not same(other, one)


def test_all_right_values_and_a_clean_end_pass() -> None:
    assert judge(ITEM, Ending(replies=RIGHT, exit_code=0)).correct


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (Ending(replies=RIGHT, exit_code=1), Kind.ERROR),
        (Ending(replies=RIGHT, signal=signal.SIGSEGV), Kind.ERROR),
        (Ending(replies=RIGHT, signal=signal.SIGSYS), Kind.VIOLATION),
        (Ending(replies=RIGHT, signal=signal.SIGXCPU), Kind.TIMEOUT),
        (Ending(replies=RIGHT, too_long=True), Kind.TIMEOUT),
        (Ending(replies=RIGHT, too_much=True), Kind.VIOLATION),
        (Ending(replies=RIGHT + b'{"value": 8}\n', exit_code=0), Kind.VIOLATION),
        (Ending(replies=RIGHT[:-5], exit_code=0), Kind.VIOLATION),
        (Ending(replies=RIGHT[:26], exit_code=0), Kind.ERROR),
        (Ending(replies=b"", exit_code=0), Kind.ERROR),
        (Ending(replies=b'{"value": 2}\n{"value": 4}\n{"value": true}\n', exit_code=0), Kind.WRONG),
        (Ending(replies=b'{"value": 2}\n{"value": 4}\n{"odd": "tuple"}\n', exit_code=0), Kind.WRONG),
        (Ending(replies=b'{"value": 2}\n{"value": 4}\n{}\n', exit_code=0), Kind.VIOLATION),
        (Ending(replies=b"[]\n" * 3, exit_code=0), Kind.VIOLATION),
        (Ending(replies=b"\xff\n", exit_code=0), Kind.VIOLATION),
        (Ending(replies=b'{"value": ' + b"[" * 100_000, exit_code=0), Kind.VIOLATION),
        (Ending(replies=b'{"value": ' + b"9" * 10_000 + b"}\n", exit_code=0), Kind.VIOLATION),
        (Ending(replies=b'{"value": ' + b"[" * 900 + b"]" * 900 + b"}\n", exit_code=0), Kind.WRONG),
        (Ending(replies=b'{"raised": "MemoryError", "words": ""}\n', exit_code=0), Kind.MEMORY),
        (Ending(replies=b'{"broken": "SyntaxError", "words": "\\ud800"}\n', exit_code=0), Kind.ERROR),
    ],
    ids=str,
)
def test_anything_else_does_not_pass_and_says_why(ending: Ending, kind: Kind) -> None:
    found = judge(ITEM, ending)
    assert (found.kind, found.correct) == (kind, False)
    assert found.detail.isascii()
    assert 0 < len(found.detail) <= 240


_LINES = st.sampled_from(
    [*RIGHT.splitlines(), b"", b"{}", b"[]", b'{"value": 2.0}', b'{"raised": 1}', b'{"odd": []}', b"\x00"]
)


@given(lines=st.lists(_LINES | st.binary(max_size=20), max_size=5))
def test_whatever_comes_out_of_the_sandbox_is_judged_and_only_the_right_values_pass(lines: list[bytes]) -> None:
    replies = b"\n".join(lines)
    assert judge(ITEM, Ending(replies=replies, exit_code=0)).correct == (replies.split() == RIGHT.split())
