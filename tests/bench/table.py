"""The comparison as text: medians of each tool's runs, and the ratios of ours to a peer's in the same turn."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from tests.bench.figures import Run
from tests.bench.scenario import VARIANTS, Scenario

WIDTH = 80
OURS = "fleetbench"
_LABEL = 17
_US_PER_S = 1e6
_MB_BYTES = 1e6
_THOUSAND, _MILLION, _TEN, _HUNDRED = 1_000, 1_000_000, 10, 100

LEGEND = """\
tok per CPU-s: tokens by CPU seconds (user + system, whole process tree) from the server's receipt of the first request
that counts to the tool's exit; ±%: half the spread over the turns. CPU us per tok: all CPU from exec to exit, start-up
included; loop alone: what the tool says of its own loop. said - true, said / true: the tool's figure against the
server's send stamps of the same run. start: from exec to the receipt of the first request. peak: of the whole tree,
sampled 20 times a second. ours / it: by turn, then the median. 2 processes: they share their cores with the server.
Here:"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One figure of a run; `of` gives None where the run has none."""

    heads: tuple[str, str]
    width: int
    of: Callable[[Run], float | None]
    text: Callable[[float], str]
    compared: bool = True
    spread: bool = False


def _share(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _cpu_us_per_tok(run: Run) -> float | None:
    share = _share(run.cpu_s, run.tok)
    return None if share is None else share * _US_PER_S


def _ttft_late_ms(run: Run) -> float | None:
    return run.ttft.p99_ms - run.true_ttft.p99_ms if run.ttft and run.true_ttft else None


def _itl_ratio(run: Run) -> float | None:
    return _share(run.itl.p99_ms, run.true_itl.p99_ms) if run.itl and run.true_itl else None


def digits(value: float) -> str:
    """Three significant ones, thousands as k, millions as M."""
    for unit, name in ((_MILLION, "M"), (_THOUSAND, "k")):
        if abs(value) >= unit * (1 - 5e-4):
            return f"{_three(value / unit)}{name}"
    return _three(value)


def _three(value: float) -> str:
    size = abs(value)
    return f"{value:.{0 if size >= _HUNDRED - 0.05 else 1 if size >= _TEN - 0.005 else 2}f}"


COLUMNS = (
    Column(
        heads=("tok per", "CPU-s"), width=8, of=lambda run: _share(run.tok, run.load_cpu_s), text=digits, spread=True
    ),
    Column(heads=("CPU us", "per tok"), width=9, of=_cpu_us_per_tok, text=digits),
    Column(heads=("TTFT p99", "said-true"), width=11, of=_ttft_late_ms, text=lambda ms: f"{ms:+.1f}ms", compared=False),
    Column(heads=("ITL p99", "said/true"), width=10, of=_itl_ratio, text=lambda ratio: f"{ratio:.3f}", compared=False),
    Column(heads=("start", "s"), width=7, of=lambda run: run.start_s, text=digits),
    Column(
        heads=("MB", "PSS"), width=7, of=lambda run: _share(run.peak_pss_bytes, _MB_BYTES), text=lambda mb: f"{mb:.0f}"
    ),
    Column(
        heads=("MB", "RSS"), width=7, of=lambda run: _share(run.peak_rss_bytes, _MB_BYTES), text=lambda mb: f"{mb:.0f}"
    ),
)
_SPREAD_WIDTH = 4
_SMALL_RATIO = 0.1
_OFF_RATIO = 0.1
"""A median this far from the truth has a note: the table's columns are p99."""


def table(scenarios: Sequence[Scenario], runs: Sequence[Run], *, cores: str) -> str:
    """One block for each scenario that has runs; no line is longer than WIDTH."""
    lines = [
        _line("", [column.heads[0] for column in COLUMNS], "±"),
        _line("", [column.heads[1] for column in COLUMNS], "%"),
    ]
    for scenario in scenarios:
        found = [run for run in runs if run.scenario == scenario.name]
        if found:
            title = f"{scenario.streams:,} streams x {scenario.output_tok:,} tokens: {scenario.title}"
            lines += ["", title, *_block(found), *_notes(scenario, found)]
    return "\n".join([*lines, "", *textwrap.wrap(f"{LEGEND} {cores}", WIDTH)]) + "\n"


def _block(runs: Sequence[Run]) -> Iterator[str]:
    ours = {run.turn: run for run in runs if run.tool == OURS and run.failure is None}
    for tool in dict.fromkeys(run.tool for run in runs):
        good = [run for run in runs if run.tool == tool and run.failure is None]
        if not good:
            continue
        yield _line(
            f"  {tool}" if tool in VARIANTS else tool, [_cell(column, good) for column in COLUMNS], _spread(good)
        )
        if tool == OURS:
            loops = [loop for run in good if (loop := _loop(run))]
            if loops:
                yield _line("  loop alone", [_cell(column, loops) for column in COLUMNS], _spread(loops))
        elif ours:
            yield _line("  ours / it", [_ratio(column, ours, good) for column in COLUMNS], "")


def _loop(run: Run) -> Run | None:
    """The run as if its loop's CPU time were all of it; what the loop has no share in is left out."""
    if run.loop_cpu_s is None:
        return None
    bare = replace(run, start_s=None, peak_pss_bytes=None, peak_rss_bytes=None, ttft=None, itl=None)
    return replace(bare, cpu_s=run.loop_cpu_s, load_cpu_s=run.loop_cpu_s)


def _values(column: Column, runs: Sequence[Run]) -> list[float]:
    return [value for run in runs if (value := column.of(run)) is not None]


def _cell(column: Column, runs: Sequence[Run]) -> str:
    values = _values(column, runs)
    return column.text(median(values)) if values else "-"


def _spread(runs: Sequence[Run]) -> str:
    values = [value for column in COLUMNS if column.spread for value in _values(column, runs)]
    return f"{(max(values) - min(values)) / 2 / median(values) * 100:.0f}" if len(values) > 1 else ""


def _ratio(column: Column, ours: dict[int, Run], theirs: Sequence[Run]) -> str:
    """Ours / the peer's, of the runs of one turn: what slows the machine for a while then slows both."""
    pairs = [(column.of(ours[run.turn]), column.of(run)) for run in theirs if run.turn in ours]
    ratios = [ratio for above, below in pairs if (ratio := _share(above, below)) is not None]
    return f"{_ratio_text(median(ratios))}x" if ratios and column.compared else ""


def _ratio_text(ratio: float) -> str:
    return _three(ratio) if ratio >= _SMALL_RATIO else f"{ratio:.3f}"


def _line(label: str, cells: Sequence[str], spread: str) -> str:
    texts = []
    for column, cell in zip(COLUMNS, cells, strict=True):
        texts.append(f"{cell:>{column.width}}")
        if column.spread:
            texts.append(f"{spread:>{_SPREAD_WIDTH}}")
    return f"{label:<{_LABEL}}{''.join(texts)}".rstrip()


def _notes(scenario: Scenario, runs: Sequence[Run]) -> Iterator[str]:
    """What the figures do not say: each kind once for a tool, as its first run had it."""
    found: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for kind, note in _of_run(scenario, run):
            found.setdefault((run.tool, kind), []).append(note)
    for (tool, _), notes in found.items():
        turns = sum(run.tool == tool for run in runs)
        often = f" ({len(notes)} of {turns} turns)" if turns > 1 else ""
        yield from textwrap.wrap(
            f"{tool}: {notes[0]}{often}", WIDTH, initial_indent="  ! ", subsequent_indent="    ", break_on_hyphens=False
        )


def _of_run(scenario: Scenario, run: Run) -> Iterator[tuple[str, str]]:
    """Kind and text of each note."""
    if run.failure is not None:
        yield "failure", run.failure
    # In a flood every client is late, and ours says so.
    if run.complaint is not None and scenario.paced:
        yield "complaint", f"says of itself: {run.complaint}"
    if run.failed or (run.completed is not None and run.completed < scenario.streams):
        yield "failed", f"{run.completed} of {scenario.streams} requests completed, {run.failed} failed"
    if run.itl and run.itl_is_mean:
        yield "mean", "its ITL is a request's mean, and so is the truth beside it"
    for name, said, true in (("TTFT", run.ttft, run.true_ttft), ("ITL", run.itl, run.true_itl)):
        if said and true and abs(said.p50_ms / true.p50_ms - 1) > _OFF_RATIO:
            yield name, f"{name} p50 said {said.p50_ms:.3g} ms, true {true.p50_ms:.3g} ms"
    if scenario.paced and run.streams is not None and run.streams < scenario.streams:
        yield "streams", f"reached {run.streams:,} streams of {scenario.streams:,}"
