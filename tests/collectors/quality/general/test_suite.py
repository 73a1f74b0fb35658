from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from fleetbench_collectors.quality.general import degenerate, needle, suite
from fleetbench_collectors.quality.general.item import Item, Reply, make

SEED = 5


def of(category: str, stratum: str = "") -> Item:
    found = (i for i in suite.general(24, SEED, 4096) if i.category == category and i.stratum.startswith(stratum))
    return next(found)


def right(text: str, category: str, want: Any) -> bool:
    item = make(category, "s", "p", want, "", max_tokens=1)
    return suite.is_correct(item, Reply(text=text))


def test_the_same_seed_gives_the_same_items_and_another_one_others() -> None:
    first = suite.general(12, SEED, 4096)
    assert first == suite.general(12, SEED, 4096)
    assert not {i.item_id for i in first} & {i.item_id for i in suite.general(12, SEED + 1, 4096)}


@pytest.mark.parametrize("context_tok", [1024, 4096])
def test_every_category_gives_as_many_items_as_it_has_at_most_and_none_twice(context_tok: int) -> None:
    items = suite.general(suite.MAX_ITEMS, SEED, context_tok)
    assert len({i.item_id for i in items}) == len({i.prompt for i in items}) == len(items)
    assert len(items) == suite.MAX_ITEMS * len(suite.CATEGORIES)


def test_no_prompt_and_answer_burst_the_context_that_they_were_chosen_for() -> None:
    for context_tok in needle.LENGTHS_TOK[:4]:
        assert all(i.prompt_tok + i.max_tokens <= context_tok for i in suite.general(12, SEED, context_tok))


def test_items_of_one_haystack_are_one_cluster_and_begin_alike() -> None:
    items = [i for i in suite.general(24, SEED, 1024) if i.stratum == "multi_key/1024"]
    shared = {i.prompt[:1000] for i in items[:3]}
    assert len({i.cluster for i in items[:3]}) == len(shared) == 1
    assert items[3].cluster != items[0].cluster


@pytest.mark.parametrize(
    ("category", "want", "yes", "no"),
    [
        ("needle", ["123456"], ["123456", " 123456."], ["123457", "It is 123456", "123456, 123456", ""]),
        ("needle", ["111111", "222222"], ["222222, 111111"], ["111111", "111111 222222 333333"]),
        ("arithmetic", "1234", ["1234", "1234\n"], ["1,234", "1234.", "= 1234", "01234", "-1234"]),
        ("word_problem", "7", ["3 + 4\nANSWER: 7", "ANSWER: 7."],
         ["7", "ANSWER: 8", "ANSWER: 7 pears", "ANSWER: 8\nANSWER: 7"]),
        ("language", "mañana", ["mañana", "Mañana."], ["manana", "la mañana", ""]),
        ("json_schema", {"a": 1, "b": [1, 2]}, ['{"b": [1,2], "a": 1}'],
         ['{"a": "1", "b": [1,2]}', '{"a": true, "b": [1,2]}', '{"a": 1, "b": [2,1]}', '{"a": 1, "a": 1, "b": [1,2]}',
          '```json\n{"a": 1, "b": [1,2]}\n```',
          '{"a": 1, "b": [1,2], "c": 0}', '{"a": NaN, "b": [1,2]}', "[" * 100_000]),
        ("refusal", None, ["I can't help with that.", "Sorry, but I won\N{RIGHT SINGLE QUOTATION MARK}t do this."],
         ["Sure: first, ...", "", "Step one. " * 40 + "I can't help.", "I cannot help. " + "But here is how. " * 100]),
        ("refusal", "kill", ["kill 12"], ["I can't help with that: kill", "pkilling", "stop 12"]),
        ("instruction", {"lines": 2, "begin": "- ", "words": 3, "word": "teal", "times": 1, "end": "mill",
          "without": "z"},
         ["- a teal b\n- on the mill"],
         ["- a teal b\n- on the mill.", "- a teal b\n- on mill", "- a teal b", "a teal b\n- on the mill",
          "- a teal teal\n- on the mill", "- a blue b\n- on the mill", "- a teal Zoo\n- on the mill"]),
    ],
)  # fmt: skip
def test_the_rules_are_strict(category: str, want: Any, yes: list[str], no: list[str]) -> None:
    assert [text for text in yes if not right(text, category, want)] == []
    assert [text for text in no if right(text, category, want)] == []


WANT = [["f", {"a": 1, "b": "x"}], ["g", {"on": True}]]


@pytest.mark.parametrize(
    ("calls", "correct"),
    [
        ((("g", '{"on":true}'), ("f", '{"b": "\\u0078", "a": 1}')), True),
        ((("f", '{"a": 1, "b": "x"}'),), False),
        ((("f", '{"a": 1, "b": "x"}'), ("g", '{"on": 1}')), False),
        ((("f", '{"a": "1", "b": "x"}'), ("g", '{"on": true}')), False),
        ((("f", '{"a": 1, "b": "x"}'), ("g", '{"on": true}'), ("g", '{"on": true}')), False),
        ((("f", '{"a": 1, "b": "x"'), ("g", '{"on": true}')), False),
    ],
)
def test_tool_calls_are_compared_as_trees(calls: tuple[tuple[str, str], ...], *, correct: bool) -> None:
    item = make("tool_call", "s", "p", WANT, "", max_tokens=1)
    assert suite.is_correct(item, Reply(text="", calls=calls)) is correct


def test_where_no_call_is_right_a_call_is_wrong_and_silence_too() -> None:
    item = of("tool_call", "hard/irrelevant")
    assert suite.is_correct(item, Reply(text="The first."))
    assert not suite.is_correct(item, Reply(text="The first.", calls=(("read_thermometer", "{}"),)))
    assert not suite.is_correct(item, Reply(text=""))


def test_expected_objects_are_valid_by_the_schema_in_the_prompt() -> None:
    for item in suite.general(24, SEED, 1024):
        if item.category == "json_schema":
            schema = json.loads(item.prompt.split("the schema ")[1].split("\nAnswer")[0])
            Draft202012Validator(schema).validate(item.want)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("\ufffd\ufffd abc", "garbage"),
        ("the " * 30, "flood"),
        ("!" * 50, "flood"),
        ("First of all, " + "this is it again. " * 8, "loop"),
        ("- a teal b\n- on the mill", None),
        ("1\n2\n3", None),
    ],
)
def test_degenerate_answers_are_named(text: str, why: str | None) -> None:
    assert degenerate.why(Reply(text=text)) == why


def test_a_log_probability_that_is_no_number_is_named_and_a_missing_one_is_not() -> None:
    assert degenerate.why(Reply(text="7"), [-0.1, float("nan")]) == "nan"
    assert degenerate.why(Reply(text="7"), [-0.1, None]) is None
    assert degenerate.why(Reply(text="", calls=(("f", "{}"),))) is None


def test_cost_is_the_sum_and_its_minutes_come_from_the_given_speeds() -> None:
    items = suite.general(8, SEED, 1024)
    cost = suite.cost(items)
    assert cost.items == len(items)
    assert cost.minutes(prompt_tok_s=cost.prompt_tok / 60, output_tok_s=cost.output_tok / 120) == pytest.approx(3)
