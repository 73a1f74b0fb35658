from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetbench.report.result import PAGE, narrow, split, titled

GAP = 2
PLACE = {"engine": "llamacpp", "engine_version": "2026.10.11549", "hardware": "local"}
WIDTHS = st.lists(st.integers(1, 120), min_size=1, max_size=40)


def wide(widths: list[int], columns: list[int]) -> int:
    return sum(widths[column] for column in columns) + GAP * (len(columns) - 1)


@given(WIDTHS, st.integers(0, 4), st.integers(40, 200))
def test_every_column_is_in_one_panel_and_the_keys_in_all(widths: list[int], keys: int, total: int) -> None:
    panels = split(widths, keys=keys, total=total, gap=GAP)
    lead = list(range(min(keys, len(widths))))
    assert all(panel[: len(lead)] == lead for panel in panels)
    rest = [column for panel in panels for column in panel[len(lead) :]]
    assert rest == list(range(len(lead), len(widths)))


@given(WIDTHS, st.integers(0, 3), st.integers(60, 200))
def test_after_narrowing_every_panel_fits_the_page(widths: list[int], keys: int, total: int) -> None:
    cut = narrow(widths, keys=keys, total=total, gap=GAP)
    assert all(was >= now >= min(was, 6) for was, now in zip(widths, cut, strict=True))
    panels = split(cut, keys=keys, total=total, gap=GAP)
    assert all(wide(cut, panel) <= total for panel in panels)


@given(WIDTHS, st.integers(0, 3))
def test_what_fits_is_neither_cut_nor_split(widths: list[int], keys: int) -> None:
    total = wide(widths, list(range(len(widths))))
    assert split(widths, keys=keys, total=total, gap=GAP) == [list(range(len(widths)))]


def test_the_version_leaves_a_title_that_is_wider_than_a_page() -> None:
    whole, notes = titled("ITL, ms", "ladder-75m (random weights)", row=PLACE)
    assert (whole, notes) == ("ITL, ms: ladder-75m (random weights), llamacpp 2026.10.11549, local", ())
    title, notes = titled("ITL, ms", "a-model-of-a-longer-name (random weights)", row=PLACE)
    assert title == "ITL, ms: a-model-of-a-longer-name (random weights), llamacpp, local"
    assert len(title) <= PAGE
    assert notes == ("llamacpp 2026.10.11549.",)


def test_a_version_that_nobody_said_is_not_said() -> None:
    bare = {**PLACE, "engine_version": None}
    assert titled("Speed", "m", row=bare) == ("Speed: m, llamacpp, local", ())
    assert titled("Speed", "m" * 80, row=bare) == (f"Speed: {'m' * 80}, llamacpp, local", ())


@given(WIDTHS, st.integers(0, 2), st.data())
def test_a_tied_column_is_parted_from_the_one_before_it_only_where_both_are_too_wide(
    widths: list[int], keys: int, data: st.DataObject
) -> None:
    tied = data.draw(st.sets(st.integers(keys + 1, 40)).map(lambda found: {n for n in found if n - 1 not in found}))
    panels = split(widths, keys=keys, total=80, gap=GAP, tied=tied)
    assert [column for panel in panels for column in panel[keys:]] == list(range(keys, len(widths)))
    lead = list(range(min(keys, len(widths))))
    for column in tied & set(range(len(widths))):
        apart = not any({column - 1, column} <= set(panel) for panel in panels)
        assert not apart or wide(widths, [*lead, column - 1, column]) > 80
