"""A schedule as a picture: nodes as rows, launches as bars over time. SVG by itself, without script or other files."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from fleetbench.report.cell import shown

WIDTH, LEFT, RIGHT = 1280.0, 118.0, 24.0
ROWS_HEIGHT = 1500.0
"""Pixels that all rows together should have; more only where a row would be thinner than it may be."""
THINNEST, LANE_HEIGHT, ROW_HEIGHT = 0.9, 9.0, 22.0
"""Of a lane; of a lane and of an undivided row where there is room."""
CAPTION = 26.0
NAMED_FROM, TEXT_FROM = 11.0, 10.0
"""Heights from which a row has room for its name, a bar for its label."""
GLYPH = 6.1
"""Pixels of a character at 10.5 px, on average."""
PALETTE = (
    *("#3b6fb6", "#e08a2e", "#4c9f70", "#8a63b0", "#c95f8c", "#2aa6b0", "#b59a2f", "#7a5c4a", "#6f87d8", "#93b84a"),
    *("#b0705a", "#5d7f8c"),
)
OTHER, FAILED, INK, FAINT = "#a9afb8", "#d1242f", "#1f2733", "#69727f"
STEPS_S = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800),
    *(1209600, 2592000, 7776000, 31536000),
)
MOST_TICKS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A node; group: its kind; lanes: parts that launches may have of it side by side."""

    name: str
    group: str
    lanes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A launch on one node; lanes: by number; colour: what its colour stands for; title: what hovering tells."""

    row: str
    lanes: tuple[int, ...]
    start_s: float
    end_s: float
    colour: str
    label: str
    title: str
    failed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """captions: what to say of a group, by its name."""

    title: str
    subtitle: str
    rows: Sequence[Row]
    bars: Sequence[Bar]
    captions: Mapping[str, str] = field(default_factory=dict)


def svg(chart: Chart) -> str:
    """The picture, as one SVG document."""
    return "".join(_Picture.of(chart).lines())


def ticks_s(end_s: float) -> list[float]:
    """Round times from 0 to the end, at most a dozen."""
    step = next((step for step in STEPS_S if end_s / step <= MOST_TICKS), None)
    if step is None:
        step = STEPS_S[-1] * -(-int(end_s) // (STEPS_S[-1] * MOST_TICKS))
    return [float(step * number) for number in range(int(end_s // step) + 1)]


def clock(seconds: float, step_s: float = 1.0) -> str:
    """A time in words as short as ticks of that step allow."""
    whole = round(seconds)
    if not whole:
        return "0"
    if step_s < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{whole} s" if whole < 120 else f"{whole // 60}:{whole % 60:02d} min"  # noqa: PLR2004
    if step_s < 3600:  # noqa: PLR2004
        return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600}:{whole % 3600 // 60:02d} h"  # noqa: PLR2004
    if step_s < 86400:  # noqa: PLR2004
        return f"{whole // 3600} h"
    return f"{whole // 86400} d"


@dataclass(frozen=True, slots=True)
class _Picture:
    """Where everything is, in pixels."""

    chart: Chart
    tops: Mapping[str, float]
    captions: Mapping[str, float]
    lane: Mapping[str, float]
    """Height of one lane, by row."""
    gap: float
    top: float
    bottom: float
    end_s: float
    colours: Mapping[str, str]
    legend: Sequence[Sequence[tuple[str, str, float]]]
    """Lines of (name, colour, x)."""

    @staticmethod
    def of(chart: Chart) -> _Picture:
        groups = {name: list(rows) for name, rows in itertools.groupby(chart.rows, key=lambda row: row.group)}
        thin = max(THINNEST, ROWS_HEIGHT / max(1, sum(row.lanes for row in chart.rows)))
        lane = {row.name: min(thin, LANE_HEIGHT if row.lanes > 1 else ROW_HEIGHT) for row in chart.rows}
        gap = min(4.0, 0.18 * min((lane[row.name] * row.lanes for row in chart.rows), default=0.0))
        colours = _colours(chart.bars)
        legend = _legend(colours, failed=any(bar.failed for bar in chart.bars))
        top = 82.0 + 20 * len(legend)
        y = top + 8
        tops: dict[str, float] = {}
        captions: dict[str, float] = {}
        for name, rows in groups.items():
            captions[name], y = y, y + CAPTION
            for row in rows:
                tops[row.name], y = y, y + lane[row.name] * row.lanes + gap
            y += 8
        return _Picture(
            chart=chart, tops=tops, captions=captions, lane=lane, gap=gap, top=top, bottom=y,
            end_s=max((bar.end_s for bar in chart.bars), default=0.0) or 1.0, colours=colours, legend=legend,
        )  # fmt: skip

    def x(self, seconds: float) -> float:
        return LEFT + seconds / self.end_s * (WIDTH - LEFT - RIGHT)

    def lines(self) -> Iterator[str]:
        height = self.bottom + 28
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:.0f}" width="{WIDTH:g}" '
            f'height="{height:.0f}" role="img" aria-label={quoteattr(_text(self.chart.title))}>\n<style>\n'
            'text{font-family:system-ui,"Segoe UI","Helvetica Neue",Arial,"DejaVu Sans",sans-serif;font-size:11px;'
            f"fill:{INK}}}\n.h{{font-size:18px;font-weight:600}}.g{{font-size:12px;font-weight:600}}"
            f".f{{fill:{FAINT}}}.t{{font-size:10.5px;fill:#fff;pointer-events:none}}\n"
            ".b:hover{filter:brightness(.85)}\n</style>\n"
            f'<rect width="{WIDTH:g}" height="{height:.0f}" fill="#fff"/>\n'
            f'<text class="h" x="24" y="34">{_text(self.chart.title)}</text>\n'
            f'<text class="f" x="24" y="54">{_text(self.chart.subtitle)}</text>\n'
        )
        yield from self._legend_lines()
        yield from self._row_lines()
        yield from self._axis_lines()
        for bar in self.chart.bars:
            yield from self._bar_lines(bar)
        yield "</svg>\n"

    def _legend_lines(self) -> Iterator[str]:
        for number, line in enumerate(self.legend):
            y = 66 + 20 * number
            for name, colour, x in line:
                shape = f'<rect x="{x:.0f}" y="{y}" width="12" height="12" rx="2" '
                shape += (
                    f'fill="#fff" stroke="{FAILED}" stroke-width="2"/>' if colour == FAILED else f'fill="{colour}"/>'
                )
                yield f'{shape}<text x="{x + 18:.0f}" y="{y + 10}">{_text(name)}</text>\n'

    def _row_lines(self) -> Iterator[str]:
        """Captions of the groups, names of the rows (of every so many, where they are thin), and a ground below."""
        for group, y in self.captions.items():
            yield f'<text class="g" x="24" y="{y + 18:.1f}">{_text(group)}</text>'
            if said := self.chart.captions.get(group):
                yield f'<text class="f" x="{LEFT:g}" y="{y + 18:.1f}">{_text(said)}</text>'
            yield "\n"
        named = -1e9
        for row in self.chart.rows:
            y, height = self.tops[row.name], self.lane[row.name] * row.lanes
            yield _rect(LEFT, y, WIDTH - LEFT - RIGHT, height, 'fill="#f0f2f5"')
            if y + height / 2 - named >= NAMED_FROM:
                named = y + height / 2
                name = row.name if len(row.name) <= 14 else f"{row.name[:6]}…{row.name[-7:]}"  # noqa: PLR2004
                yield f'<text class="f" x="{LEFT - 8:g}" y="{named + 3.8:.1f}" text-anchor="end">{_text(name)}</text>'
            yield "\n"

    def _axis_lines(self) -> Iterator[str]:
        """A line at each tick through the rows of every group, and its time above and below all."""
        ticks = ticks_s(self.end_s)
        step = ticks[1] if len(ticks) > 1 else self.end_s
        groups = "".join(f"M{{x}} {top:.1f}V{bottom:.1f}" for top, bottom in self._grounds())
        for at_s in ticks:
            x = f"{self.x(at_s):.1f}"
            yield f'<path d="{groups.replace("{x}", x)}" stroke="#d5d9df" stroke-width="1"/>'
            for y in (self.top + 4, self.bottom + 12):
                yield f'<text class="f" x="{x}" y="{y:.1f}" text-anchor="middle">{clock(at_s, step)}</text>'
            yield "\n"

    def _grounds(self) -> Iterator[tuple[float, float]]:
        """From the first to the last row of each group."""
        for _, rows in itertools.groupby(self.chart.rows, key=lambda row: row.group):
            found = list(rows)
            last = found[-1]
            yield self.tops[found[0].name], self.tops[last.name] + self.lane[last.name] * last.lanes

    def _bar_lines(self, bar: Bar) -> Iterator[str]:
        x, lane = self.x(bar.start_s), self.lane[bar.row]
        width = max(0.4, self.x(bar.end_s) - x - (0.6 if lane > 2 else 0))  # noqa: PLR2004 - a seam, where it is seen
        fill = self.colours.get(bar.colour, OTHER)
        look = f'fill="{fill}"'
        if bar.failed:
            look = f'fill="{fill}" fill-opacity=".35" stroke="{FAILED}" stroke-width="{min(1.4, 0.35 * lane):.2g}"'
        yield f'<g class="b"><title>{_text(bar.title)}</title>'
        for first, count in _runs(bar.lanes):
            y = self.tops[bar.row] + first * lane
            height = count * lane - (0.6 if lane > 4 else 0)  # noqa: PLR2004 - likewise
            yield _rect(x, y, width, height, look)
            if bar.failed:
                cap = min(3.0, width)
                yield _rect(x + width - cap, y, cap, height, f'fill="{FAILED}"')
            label = _fitting(bar, width - 8)
            if height >= TEXT_FROM and label:
                ink = f' style="fill:{INK}"' if bar.failed else ""
                yield f'<text class="t" x="{x + 4:.1f}" y="{y + height / 2 + 3.7:.1f}"{ink}>{_text(label)}</text>'
        yield "</g>\n"


def _rect(x: float, y: float, width: float, height: float, look: str) -> str:
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" {look}/>'


def _fitting(bar: Bar, width: float) -> str:
    """The label, or how it failed, if it fits."""
    words = [f"{bar.label}: {bar.failed}", bar.failed] if bar.failed else [bar.label, bar.label.split(" ", 1)[-1]]
    return next((word for word in words if len(word) * GLYPH <= width), "")


def _colours(bars: Sequence[Bar]) -> dict[str, str]:
    """By what a colour stands for; the rarest share one where there are too many."""
    total: Counter[str] = Counter()
    for bar in bars:
        total[bar.colour] += 1
    names = sorted(total)
    if len(names) > len(PALETTE):
        names = sorted(name for name, _ in total.most_common(len(PALETTE)))
    return dict(zip(names, PALETTE, strict=False)) | dict.fromkeys(total.keys() - set(names), OTHER)


def _legend(colours: Mapping[str, str], *, failed: bool) -> list[list[tuple[str, str, float]]]:
    """Names with their colours and places, line by line."""
    entries = [(name, colour) for name, colour in colours.items() if colour != OTHER]
    if len(entries) < len(colours):
        entries.append((f"{len(colours) - len(entries)} others", OTHER))
    if failed:
        entries.append(("came to nothing", FAILED))
    lines: list[list[tuple[str, str, float]]] = [[]]
    x = 24.0
    for name, colour in entries:
        width = 18 + GLYPH * len(name) + 20
        if lines[-1] and x + width > WIDTH - RIGHT:
            lines.append([])
            x = 24.0
        lines[-1].append((name, colour, x))
        x += width
    return lines


def _runs(lanes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring lanes as (first, how many)."""
    for _, run in itertools.groupby(enumerate(sorted(lanes)), key=lambda pair: pair[1] - pair[0]):
        found = [lane for _, lane in run]
        yield found[0], len(found)


def _text(text: str) -> str:
    return escape(shown(text))
