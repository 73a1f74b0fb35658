from __future__ import annotations

import copy
import inspect
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from fleetbench_collectors.quality.code import references
from fleetbench_collectors.quality.code.items import CodeItem, make_items
from fleetbench_collectors.quality.code.sandbox import Sandbox
from fleetbench_collectors.quality.code.score import same, score
from fleetbench_collectors.quality.code.templates import TEMPLATES
from tests.collectors.quality.code.wrong import WRONG

SOME = make_items(3 * len(TEMPLATES), 5)


def test_the_same_seed_gives_the_same_items_and_another_gives_others() -> None:
    assert make_items(40, 7) == make_items(40, 7)
    assert not {item.item_id for item in make_items(40, 7)} & {item.item_id for item in make_items(40, 8)}


def test_an_item_keeps_its_identity_in_a_larger_suite() -> None:
    assert make_items(60, 1)[:20] == make_items(20, 1)


def test_no_item_comes_twice_and_templates_share_them_equally() -> None:
    made = make_items(480, 3)
    assert len({item.item_id for item in made}) == len({item.prompt for item in made}) == 480
    assert set(Counter(item.cluster for item in made).values()) == {480 // len(TEMPLATES)}
    assert {item.stratum for item in made} == {"easy", "hard"}


def test_no_items_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make_items(0, 0)


@pytest.mark.parametrize("item", SOME, ids=lambda item: item.entry)
def test_what_the_examples_show_is_not_tested_and_no_test_comes_twice(item: CodeItem) -> None:
    tested = [json.dumps(arguments) for arguments in item.calls]
    assert len(set(tested)) == len(tested) >= 12
    shown = item.prompt.split("Examples:")[1]
    assert not any(f"{item.entry}({', '.join(map(repr, arguments))})" in shown for arguments in item.calls)


@pytest.mark.tool
@pytest.mark.parametrize("item", make_items(len(TEMPLATES), 11), ids=lambda item: item.cluster)
def test_the_right_solution_passes_in_the_sandbox(item: CodeItem, sandbox: Sandbox) -> None:
    source = inspect.getsource(getattr(references, item.cluster))
    call = f"def {item.entry}(given):\n    return {item.cluster}(given, **{item.parameters!r})\n"
    code = f"from typing import Any\n{source}\n{call}"
    assert score(item, f"Here it is:\n```python\n{code}```\n", sandbox).detail == ""


def _passes(item: CodeItem, function: Callable[..., Any]) -> bool:
    try:
        given = [function(*copy.deepcopy(arguments), **item.parameters) for arguments in item.calls]
    except (ValueError, IndexError, TypeError):
        return False
    return same(list(item.expected), given)


def test_every_template_has_wrong_solutions() -> None:
    assert WRONG.keys() == {template.name for template in TEMPLATES}


@pytest.mark.parametrize(("name", "i"), [(name, i) for name, some in WRONG.items() for i in range(len(some))])
def test_a_typical_wrong_solution_fails_every_item(name: str, i: int) -> None:
    asked = [item for seed in range(8) for item in make_items(len(TEMPLATES), seed) if item.cluster == name]
    assert [item.prompt for item in asked if _passes(item, WRONG[name][i])] == []


@pytest.mark.parametrize("item", SOME, ids=lambda item: item.entry)
def test_an_answer_that_is_the_same_for_every_argument_fails(item: CodeItem) -> None:
    assert not any(_passes(item, lambda *_, value=value, **__: value) for value in item.expected)
