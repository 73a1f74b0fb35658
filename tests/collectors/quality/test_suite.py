from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench_collectors.quality import suite, tasks


@settings(max_examples=20)
@given(items=st.integers(1, 60), seed=st.integers(0, 2**31))
def test_every_category_has_as_many_items_as_asked_and_none_twice(items: int, seed: int) -> None:
    made = suite.embedded(items, seed)
    assert Counter(item.category for item in made) == dict.fromkeys(suite.CATEGORIES, items)
    assert len({item.item_id for item in made}) == len(made)


def test_the_largest_suite_asks_for_every_fact() -> None:
    made = suite.embedded(suite.MAX_ITEMS, 0)
    assert {i.prompt[2:5] for i in made if i.category == "facts"} == set(tasks.FACT_KEYS)


@pytest.mark.parametrize("items", [0, -1, suite.MAX_ITEMS + 1])
def test_more_items_than_there_are_is_an_error(items: int) -> None:
    with pytest.raises(ValueError, match="1 to 500"):
        suite.embedded(items, 0)


def test_the_same_seed_gives_the_same_items_and_another_gives_others() -> None:
    assert suite.embedded(20, 7) == suite.embedded(20, 7)
    assert {i.item_id for i in suite.embedded(20, 7)} != {i.item_id for i in suite.embedded(20, 8)}


def test_an_item_keeps_its_identity_in_a_larger_suite() -> None:
    small = {i.item_id for i in suite.embedded(50, 0) if i.category != "needle"}
    assert small <= {i.item_id for i in suite.embedded(100, 0)}


def test_needle_lengths_share_the_items_equally_and_questions_share_haystacks() -> None:
    needles = [i for i in suite.embedded(300, 0) if i.category == "needle"]
    assert Counter(i.stratum for i in needles) == {"128": 75, "256": 75, "512": 75, "1000": 75}
    for cluster, n in Counter(i.cluster for i in needles).items():
        of_it = [i for i in needles if i.cluster == cluster]
        assert n <= suite.QUESTIONS_PER_HAYSTACK
        assert len({i.prompt.partition("|")[0] for i in of_it}) == 1


def test_items_of_other_categories_are_their_own_cluster() -> None:
    assert all(i.cluster == i.item_id for i in suite.embedded(5, 0) if i.category != "needle")


def test_every_item_fits_the_stated_context() -> None:
    longest = max(len(i.prompt_ids) + len(i.answer_ids) for i in suite.embedded(40, 3))
    assert longest <= suite.CONTEXT_TOK
