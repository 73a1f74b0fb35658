"""What a person sees on stderr while a server is loaded, and the numbers behind it."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from fleetbench.report.cell import MISSING, shown
from fleetbench_collectors.load.record import OUTCOMES, P99_SAMPLES, PHASES, UNKNOWN

REFRESHES_PER_S = 4
SHOWN_S = 36
"""Seconds in the sparkline."""
RECENT = 512
"""Requests that the latencies are of: the last ones."""
SILENT_S = 2.0
"""A process that has said nothing for so long holds up the others' seconds no longer: it may have ended."""

_BAR_WIDTH = 40
_TOTALS = ("completed", "failed", "reads", "in_flight")
_MEASURE = PHASES.index("measure")
_OK = OUTCOMES.index("ok")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The load: requests or seconds that it goes on for, and requests in flight; None where it does not say."""

    label: str
    total: int | None
    seconds: float | None
    batch: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What is drawn with: `levels` from nothing to the most."""

    bar: str
    rest: str
    levels: str


BLOCKS = Signs(bar="━", rest="─", levels=" ▁▂▃▄▅▆▇█")
ASCII = Signs(bar="#", rest="-", levels=" .:-=+*%#")


class Seconds:
    """How many of something came in each second since the start, by totals that several processes tell at times."""

    def __init__(self, processes: int) -> None:
        self._bins: list[float] = []
        self._told = [(0.0, 0)] * processes

    def add(self, position: int, total: int, now_s: float) -> None:
        """A process's total now: what is new is spread evenly over the time since it last told."""
        before_s, before = self._told[position]
        if now_s <= before_s:
            return
        self._told[position] = (now_s, total)
        self._bins += [0.0] * (int(now_s) + 1 - len(self._bins))
        for second in range(int(before_s), int(now_s) + 1):
            within_s = min(now_s, second + 1) - max(before_s, second)
            self._bins[second] += (total - before) * (within_s / (now_s - before_s))

    def whole(self, last: int) -> list[float]:
        """The last seconds that all processes have told of, the oldest first."""
        times_s = [told_s for told_s, _ in self._told]
        known_s = max(min(times_s), max(times_s) - SILENT_S)
        return self._bins[: int(known_s)][-last:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is known at one moment; None where nothing is yet.

    done: requests that are over; per_s: arrivals of data in each of the last seconds; tok_s: tokens of the completed
    requests over the elapsed time; the latencies are of the last `recent` requests, and ttft_high_ms is their p99, or
    their largest where they are fewer than P99_SAMPLES.
    """

    elapsed_s: float
    completed: int
    failed: int
    in_flight: int
    per_s: tuple[float, ...]
    tok_s: float | None
    recent: int
    ttft_ms: float | None
    ttft_high_ms: float | None
    tpot_ms: float | None
    kinds: tuple[str, ...]

    @property
    def done(self) -> int:
        return self.completed + self.failed


class Gauge:
    """Takes in what the processes say. It reads no clock: times are seconds since the measured phase began."""

    def __init__(self, processes: int) -> None:
        self._totals = [dict.fromkeys(_TOTALS, 0) for _ in range(processes)]
        self._arrivals = Seconds(processes)
        self._ttft_ms: deque[float] = deque(maxlen=RECENT)
        self._tpot_ms: deque[float] = deque(maxlen=RECENT)
        self._tok = 0
        self._counted = 0
        self._kinds: Counter[str] = Counter()

    def add(self, position: int, progress: Mapping[str, Any], now_s: float) -> None:
        self._totals[position] = {name: progress[name] for name in _TOTALS}
        self._arrivals.add(position, progress["reads"], now_s)
        for row in progress["rows"]:
            if row["phase"] == _MEASURE:
                self._take(row)

    def _take(self, row: Mapping[str, int]) -> None:
        if row["outcome"] != _OK:
            self._kinds[OUTCOMES[row["outcome"]]] += 1
            return
        tok = row["chunks"] if row["output_tok"] == UNKNOWN else row["output_tok"]
        if tok != UNKNOWN:
            self._tok += tok
            self._counted += 1
        start_ns, first_ns, last_ns = (row[name] for name in ("start_ns", "first_token_ns", "last_token_ns"))
        if first_ns >= start_ns:
            self._ttft_ms.append((first_ns - start_ns) / 1e6)
            if tok > 1 and last_ns >= first_ns:
                self._tpot_ms.append((last_ns - first_ns) / 1e6 / (tok - 1))

    def figures(self, now_s: float) -> Figures:
        total = {name: sum(each[name] for each in self._totals) for name in _TOTALS}
        ttft_ms = sorted(self._ttft_ms)
        high = 0.99 if len(ttft_ms) >= P99_SAMPLES else 1.0
        return Figures(
            elapsed_s=now_s,
            completed=total["completed"],
            failed=total["failed"],
            in_flight=total["in_flight"],
            per_s=tuple(self._arrivals.whole(SHOWN_S)),
            tok_s=self._tok_s(total["completed"], now_s),
            recent=len(ttft_ms),
            ttft_ms=_rank(ttft_ms, 0.5),
            ttft_high_ms=_rank(ttft_ms, high),
            tpot_ms=_rank(sorted(self._tpot_ms), 0.5),
            kinds=tuple(kind for kind, _ in self._kinds.most_common() if kind != "cancelled"),
        )

    def _tok_s(self, completed: int, now_s: float) -> float | None:
        """The rows are a sample where requests end faster than they are told of, so their mean stands for the rest."""
        if not self._counted or now_s <= 0:
            return None
        return completed * self._tok / self._counted / now_s


def share(asked: Asked, figures: Figures) -> float | None:
    """How much of the load is over, 0 to 1."""
    parts = []
    if asked.total:
        parts.append(figures.done / asked.total)
    if asked.seconds:
        parts.append(figures.elapsed_s / asked.seconds)
    return min(max(parts), 1.0) if parts else None


def left_s(asked: Asked, figures: Figures) -> float | None:
    """Until the last request starts or ends, at the pace so far; None where there is none yet."""
    known = []
    if asked.total and figures.done:
        known.append(figures.elapsed_s * (asked.total - figures.done) / figures.done)
    if asked.seconds:
        known.append(asked.seconds - figures.elapsed_s)
    return max(min(known), 0.0) if known else None


def sparkline(values: Sequence[float], levels: str) -> str:
    """A sign each, by the share of the largest; only what is nothing looks like it."""
    most, steps = max(values, default=0.0), len(levels) - 1
    return "".join(levels[math.ceil(steps * value / most)] if value > 0 else levels[0] for value in values)


def picture(asked: Asked, figures: Figures, *, said: str, signs: Signs) -> Text:
    """The live part while the load goes on, a line each; `said` stands in place of the time that is left.

    Arrivals are reads of the sockets that brought something: that is what can be counted while streams run. They are
    tokens where the server sends one at a time, and fewer where it sends several together. Tokens are known only of
    the requests that have ended, so their rate is too low by those in flight.
    """
    now = figures.per_s[-1] if figures.per_s else None
    high = "p99" if figures.recent >= P99_SAMPLES else "largest"
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{asked.label}\n", "bold")
    _bar(text, asked, figures, said, signs)
    _line(text, "requests", f"{figures.done:,}", "" if asked.total is None else f"of {asked.total:,}")
    _line(text, "in flight", f"{figures.in_flight:,}", "" if asked.batch is None else f"of {asked.batch:,}")
    _line(text, "chunks/s", _whole(now), sparkline(figures.per_s, signs.levels), "cyan")
    _line(text, "tok/s", _whole(figures.tok_s), "of completed requests")
    _line(text, "TTFT ms", shown(figures.ttft_ms), f"p50, {shown(figures.ttft_high_ms)} {high}")
    _line(text, "TPOT ms", shown(figures.tpot_ms), f"p50, last {figures.recent:,} requests")
    if figures.failed:
        text.append(f"\n{'failed':<11}{figures.failed:>9,}  {', '.join(figures.kinds)}", "red")
    return text


def _bar(text: Text, asked: Asked, figures: Figures, said: str, signs: Signs) -> None:
    part = share(asked, figures)
    if part is not None:
        filled = round(_BAR_WIDTH * part)
        text.append(signs.bar * filled, "green")
        text.append(signs.rest * (_BAR_WIDTH - filled), "dim")
        text.append(f"{math.floor(100 * part):>4} %  ")
    text.append(_clock(figures.elapsed_s))
    left = left_s(asked, figures)
    if said:
        text.append(f"  {said}", "yellow")
    elif left:
        text.append(f"  {_clock(left)} left", "dim")
    elif left is not None and figures.in_flight:
        text.append(f"  waiting for {figures.in_flight:,}", "dim")


def _line(text: Text, label: str, value: str, rest: str, style: str = "dim") -> None:
    text.append(f"\n{label:<11}", "dim")
    text.append(f"{value:>9}  ")
    text.append(rest, style)


def _whole(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _rank(values: Sequence[float], quantile: float) -> float | None:
    """The nearest rank of sorted values."""
    return values[math.ceil(quantile * len(values)) - 1] if values else None


class _Watched(Console):
    """A console whose reader may leave: the load goes on, where rich by itself would end it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class BenchView:
    """The load as it goes on, on a terminal; nothing where stderr is none.

    `say` and `stopping` may be called at any time, by a signal handler too.
    """

    def __init__(self, label: str, total: int | None, seconds: float | None, batch: int | None, processes: int) -> None:
        self._asked = Asked(label=shown(label), total=total, seconds=seconds, batch=batch)
        self._console = _Watched(stderr=True, highlight=False)
        self._signs = ASCII if self._console.options.ascii_only else BLOCKS
        self._gauge = Gauge(processes)
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._said = ("", time.monotonic())
        self._stopping = False
        self._began_s: float | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                console=self._console,
                refresh_per_second=REFRESHES_PER_S,
                transient=True,
                redirect_stdout=False,
                get_renderable=self.render,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """What goes on now, apart from the load itself."""
        self._said = (text, time.monotonic())

    def stopping(self) -> None:
        self._stopping = True

    def watch(self, position: int, progress: Mapping[str, Any]) -> None:
        """What a process says of itself; the first time that any does is the start."""
        if self._live is None:
            return
        now_s = time.monotonic()
        with self._lock:
            if self._began_s is None:
                self._began_s = now_s
                self._said = ("", now_s)
            self._gauge.add(position, progress, now_s - self._began_s)

    def render(self) -> Text:
        """The picture of this moment."""
        said, since_s = self._said
        if self._stopping:
            said = "stopping ..."
        now_s = time.monotonic()
        if self._began_s is None:
            text = Text.assemble((self._asked.label, "bold"), f"\n{said}  ", no_wrap=True, overflow="ellipsis")
            return text.append(_clock(now_s - since_s), "dim") if said else text
        with self._lock:
            figures = self._gauge.figures(now_s - self._began_s)
        return picture(self._asked, figures, said=said, signs=self._signs)
