"""What options that several commands share take."""

from __future__ import annotations

import click
import pytest

from fleetbench.cli.options import Duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("15", 15), ("0.5", 0.5), ("90s", 90), ("15m", 900), ("1h30m", 5400), (15.0, 15)]
)
def test_a_duration_is_written_as_in_a_matrix_or_as_a_number_of_seconds(text: str | float, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "0s", "-5", "nan", "inf", "1e9", "1h30"])
def test_a_duration_that_is_none_is_wrong_input(text: str) -> None:
    with pytest.raises(click.BadParameter, match=repr(text)):
        Duration().convert(text, None, None)
