from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.load.prompts import prompts


@given(
    n=st.integers(0, 200),
    context_tok=st.integers(1, 40),
    first=st.integers(0, 50),
    count=st.integers(1, 130),
    seed=st.integers(),
    nonce=st.text(max_size=8),
)
def test_prompts_have_the_exact_length_and_all_differ(
    *, n: int, context_tok: int, first: int, count: int, seed: int, nonce: str
) -> None:
    ids = range(first, first + count)
    if count**context_tok < n:
        with pytest.raises(ValueError, match="cannot all differ"):
            prompts(n, context_tok, ids, seed, nonce)
        return
    made = prompts(n, context_tok, ids, seed, nonce)
    assert {len(prompt) for prompt in made} <= {context_tok}
    assert len({tuple(prompt) for prompt in made}) == n
    assert all(token in ids for prompt in made for token in prompt)
    heads = [prompt[0] for prompt in made]
    assert all(len(set(heads[i : i + count])) == len(heads[i : i + count]) for i in range(n))


def test_the_same_arguments_give_the_same_prompts_and_any_other_give_others() -> None:
    asked = (5, 64, range(3, 98), 7, "trial")
    assert prompts(*asked) == prompts(*asked)
    assert prompts(5, 64, range(3, 98), 8, "trial") != prompts(*asked)
    assert prompts(5, 64, range(3, 98), 7, "other") != prompts(*asked)


def test_prompts_do_not_change_from_version_to_version() -> None:
    made = json.dumps(prompts(100, 64, range(3, 98), 0, "golden"))
    assert hashlib.sha256(made.encode()).hexdigest()[:16] == "4c6ca15d6b799b42"


def test_the_tokens_are_drawn_evenly() -> None:
    made = prompts(100, 1000, range(10), 0, "even")
    counts = [sum(prompt.count(token) for prompt in made) for token in range(10)]
    assert min(counts) > 9_500
    assert max(counts) < 10_500
