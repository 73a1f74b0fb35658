from __future__ import annotations

import pytest

from fleetbench.matrix.types import LoadPoint, Warmup


@pytest.mark.parametrize(
    ("warmup", "lengths_tok"),
    [
        (Warmup(requests=1), (64, 8)),
        (Warmup(requests=1, context_tok=16), (16, 8)),
        (Warmup(requests=1, output_tok=4), (64, 4)),
        (Warmup(requests=1, context_tok=128, output_tok=16), (64, 8)),
    ],
)
def test_a_warm_up_is_as_long_as_it_says_and_never_longer_than_the_load_point(
    warmup: Warmup, lengths_tok: tuple[int, int]
) -> None:
    assert warmup.lengths_tok(LoadPoint(batch=1, context_tok=64, output_tok=8)) == lengths_tok
