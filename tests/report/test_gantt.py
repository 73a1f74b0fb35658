"""The picture of a schedule: valid by itself, everything on it, legible from one row to hundreds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench.report.gantt import LEFT, MOST_TICKS, RIGHT, WIDTH, Bar, Chart, Row, clock, svg, ticks_s

SVG = "{http://www.w3.org/2000/svg}"


def bar(row: str, *, lanes: tuple[int, ...] = (0,), start_s: float = 0.0, end_s: float = 10.0, **more: Any) -> Bar:
    given = {"colour": "fp8", "label": "llama fp8", "title": f"llama fp8 on {row}", **more}
    return Bar(row=row, lanes=lanes, start_s=start_s, end_s=end_s, **given)


def draw(rows: Sequence[Row], bars: Sequence[Bar], title: str = "a run") -> ET.Element:
    text = svg(Chart(title=title, subtitle="12 h", rows=rows, bars=bars, captions={"h100": "2 nodes"}))
    assert "href" not in text
    assert "url(" not in text
    return ET.fromstring(text)  # noqa: S314 - our own


def texts(picture: ET.Element) -> list[str]:
    return [one.text or "" for one in picture.iter(f"{SVG}text")]


def boxes(picture: ET.Element) -> list[tuple[float, float, float, float]]:
    """(x, y, width, height) of the bars."""
    return [
        (float(box.get("x", "")), float(box.get("y", "")), float(box.get("width", "")), float(box.get("height", "")))
        for group in picture.iter(f"{SVG}g")
        for box in group.iter(f"{SVG}rect")
    ]


def test_rows_kinds_bars_and_times_are_named() -> None:
    picture = draw([Row(name="h100-1", group="h100"), Row(name="b200-1", group="b200")], [bar("h100-1"), bar("b200-1")])
    assert {"a run", "12 h", "h100", "b200", "h100-1", "b200-1", "2 nodes", "fp8", "llama fp8"} <= set(texts(picture))
    titles = [one.text for one in picture.iter(f"{SVG}title")]
    assert titles == ["llama fp8 on h100-1", "llama fp8 on b200-1"]


def test_a_bar_lies_where_its_time_and_its_gpus_are() -> None:
    rows = [Row(name="n", group="h100", lanes=8)]
    picture = draw(rows, [bar("n", lanes=(0, 1, 2, 3), end_s=5.0), bar("n", lanes=(4, 6, 7), start_s=5.0)])
    first, lone, pair = boxes(picture)
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    assert first[0] == pytest.approx(LEFT)
    assert first[0] + first[2] == pytest.approx(middle, abs=1)
    assert lone[0] == pair[0] == pytest.approx(middle, abs=0.01)
    assert lone[1] == pytest.approx(first[1] + first[3], abs=1)
    assert (first[3] / lone[3], pair[3] / lone[3]) == pytest.approx((4, 2), rel=0.1)
    assert pair[1] > lone[1] + lone[3]


def test_a_failure_is_marked_and_explained() -> None:
    rows = [Row(name="n", group="h100")]
    failed = draw(rows, [bar("n", failed="out of memory")])
    assert len(boxes(failed)) == 2
    assert "llama fp8: out of memory" in texts(failed)
    assert "came to nothing" in texts(failed)
    assert "came to nothing" not in texts(draw(rows, [bar("n")]))


def test_many_nodes_get_thin_rows_and_every_so_many_a_name() -> None:
    rows = [Row(name=f"h100-{number:03d}", group="h100", lanes=8) for number in range(256)]
    picture = draw(rows, [bar(row.name, lanes=(0,)) for row in rows])
    height = float(picture.get("height", ""))
    assert 1500 < height < 3000
    named = [text for text in texts(picture) if text.startswith("h100-")]
    assert 60 < len(named) < 256
    assert all(box[1] + box[3] < height for box in boxes(picture))


def test_few_nodes_do_not_fill_a_page() -> None:
    assert float(draw([Row(name="n", group="h100")], [bar("n")]).get("height", "")) < 250


def test_more_recipes_than_colours_share_one_for_the_rare() -> None:
    bars = [
        bar("n", colour=f"r{number:02d}", start_s=at, end_s=at + 1) for number in range(20) for at in range(number + 1)
    ]
    said = texts(draw([Row(name="n", group="h100")], bars))
    assert "8 others" in said
    assert "r19" in said
    assert "r00" not in said


@pytest.mark.parametrize("name", ["<script>&\"'", "a\x1bb\nc", "]]>", "名前"])
def test_names_are_text_whatever_they_hold(name: str) -> None:
    picture = draw([Row(name="n", group=name)], [bar("n", label=name, title=name, colour=name)], title=name)
    assert not re.search("<script|\x1b", "".join(texts(picture)).replace("<script>&", ""))


def test_an_empty_schedule_is_a_picture_too() -> None:
    assert "h100-1" in texts(draw([Row(name="h100-1", group="h100")], []))
    assert draw([], []) is not None


@settings(max_examples=60)
@given(st.floats(1e-3, 1e10))
def test_ticks_are_few_round_and_within_the_time(end_s: float) -> None:
    ticks = ticks_s(end_s)
    assert ticks[0] == 0
    assert ticks[-1] <= end_s
    assert len(ticks) <= MOST_TICKS + 1
    step = ticks[1] if len(ticks) > 1 else 1.0
    said = [clock(at_s, step) for at_s in ticks]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize(
    ("seconds", "step_s", "said"),
    [
        (0, 1, "0"),
        (90, 15, "90 s"),
        (150, 30, "2:30 min"),
        (5400, 900, "90 min"),
        (9000, 1800, "2:30 h"),
        (86400, 21600, "24 h"),
        (864000, 86400, "10 d"),
    ],
)
def test_times_are_as_short_as_their_ticks_allow(seconds: float, step_s: float, said: str) -> None:
    assert clock(seconds, step_s) == said
