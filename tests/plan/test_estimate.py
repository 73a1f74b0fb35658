from __future__ import annotations

import pytest

from fleetbench.matrix.types import Effort, Warmup
from fleetbench.plan.estimate import LAUNCH_S, launch_s
from tests.plan.examples import launch


def nominal_s(warmup: Warmup) -> float:
    """Of one trial: batch 1, 64 prompt and 32 output tokens, one measured request."""
    return launch_s(launch("f16", 1), Effort(requests=1, warmup=warmup), {}) - LAUNCH_S


def test_a_warm_up_of_the_load_points_shape_costs_as_much_as_a_measured_request() -> None:
    alone = nominal_s(Warmup(requests=0))
    assert nominal_s(Warmup(requests=1)) == pytest.approx(2 * alone)
    assert nominal_s(Warmup(requests=1, context_tok=10_000, output_tok=10_000)) == pytest.approx(2 * alone)


def test_a_shorter_warm_up_costs_by_its_own_tokens() -> None:
    alone = nominal_s(Warmup(requests=0))
    assert nominal_s(Warmup(requests=4, context_tok=16, output_tok=8)) == pytest.approx(2 * alone)


def test_an_earlier_trial_of_the_cell_counts_instead() -> None:
    one = launch("f16", 1)
    history_s = {one.trials[0].cell.cell_id: 7.0}
    assert launch_s(one, Effort(requests=1, warmup=Warmup(requests=1)), history_s) == LAUNCH_S + 7
