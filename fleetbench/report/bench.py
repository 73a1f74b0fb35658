"""What `fleetbench bench` found: for a person at a terminal, as one row of CSV, or as Markdown to pass on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from fleetbench.report.cell import MISSING, shown
from fleetbench.report.result import Panel, Result
from fleetbench.report.table import render as render_result
from fleetbench.report.table import render_panels
from fleetbench_collectors.load.record import P99_SAMPLES

Found = Mapping[str, Any]
"""The result as `--format json` prints it."""
CLOSED = {"ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "e2e": "end to end"}
OPEN = {"ttft_intended": "TTFT, intended", "e2e_intended": "end to end, intended", "queue": "queue delay"}
"""What an open loop has besides: from the scheduled start on, and the wait before the actual one."""
STATS = ("mean", "p50", "p90", "p99")
FEW = f"a p99 of fewer than {P99_SAMPLES} samples is hardly more than the largest of them"
INTENDED = "intended: from the scheduled start on, so what a request waited in the client counts"

_HEAD = (
    "valid",
    "reasons",
    "kinds",
    "warnings",
    "interrupted",
    "url",
    "model",
    "endpoint",
    "load",
    "batch",
    "rate_per_s",
)
_WORK = ("context", "output", "prompts", "seed", "processes", "stamp", "way")
_COUNTS = ("requests", "completed", "failed", "cancelled", "probes", "warmup", "resent", "failures")
_RATES = ("output_tok_s", "total_tok_s", "requests_per_s")
_LATENCIES = ("ttft", "first_byte", "itl", "gap", "tpot", "e2e", "queue", "ttft_intended", "e2e_intended")
_GOODPUT = ("per_s", "ratio", "met", "asked", "slo")
_APART = {"probes": "to probe", "warmup": "to warm up", "resent": "sent again"}
_EVIDENCE = (
    *("read_lag_p50_us", "read_lag_p99_us", "schedule_lag_p99_ms", "achieved_batch", "cpu_ratio", "cpu_s"),
    *("merged_ratio", "step_ns"),
)
_CACHE = {"cached_tok": "of any request by usage", "cache_hit_tok": "in all by metrics"}
_LABEL_WIDTH = 26
_EXAMPLE_WIDTH = 240
_THOUSAND = 999.95
"""From here on `shown` has no decimals."""


def render(found: Found, form: Literal["table", "csv", "markdown"], console: Console) -> None:
    """Write the result to the console."""
    match form:
        case "csv":
            render_result(flat(found), "csv", console)
        case "markdown":
            render_panels(list(_panels(found)), "markdown", console)
        case "table":
            for number, part in enumerate(_parts(found)):
                if number:
                    console.print()
                console.print(part)


def flat(found: Found) -> Result:
    """One row: every figure under a name of its own, in an order that stays; lists and failures are JSON."""
    steady, goodput = found["steady"] or {}, found["goodput"] or {}
    row: dict[str, object] = {name: found[name] for name in (*_HEAD, *_WORK, *_COUNTS, "duration_s", *_RATES)}
    for name in ("prompt_tok", "output_tok"):
        row |= {f"{name}_{part}": (found[name] or {}).get(part) for part in ("mean", "min", "max")}
    row["tokens_from"] = found["tokens_from"]
    for name in _LATENCIES:
        row |= _flat_stats(found[f"{name}_ms"], name, "_ms")
    row |= _flat_stats(found["user_tok_s"], "user_tok_s", "")
    row |= {f"goodput_{name}": goodput.get(name) for name in _GOODPUT}
    row |= {"steady_start_s": steady.get("start_s"), "steady_end_s": steady.get("end_s")}
    row |= {"steady_share_ratio": steady.get("share"), "steady_reason": found["steady_reason"]}
    row |= {f"steady_{name}": steady.get(name) for name in (*_RATES, "achieved_batch")}
    for name in CLOSED:
        row |= _flat_stats(steady.get(f"{name}_ms"), f"steady_{name}", "_ms")
    row |= {name: found["evidence"][name] for name in (*_EVIDENCE, *_CACHE)}
    return Result(columns=tuple(row), rows=(tuple(row.values()),))


def _flat_stats(stats: Mapping[str, Any] | None, name: str, unit: str) -> dict[str, object]:
    said = stats or {}
    return {f"{name}_{stat}{unit}": said.get(stat) for stat in STATS} | {f"{name}_n": said.get("n")}


def _parts(found: Found) -> Iterator[RenderableType]:
    """What a person sees, a blank line between: no rate and no latency is made of failures alone."""
    yield _title(found)
    yield _verdict(found)
    yield _facts(found)
    if found["completed"]:
        yield _rates(found)
        yield _latencies(found)
        if notes := _notes(found, mark="* "):
            yield Text("\n".join(notes), style="dim")
    yield Text(_evidence(found), style="dim")
    if found["warnings"]:
        yield _pairs([("warning", Text(shown(said), style="yellow")) for said in found["warnings"]], style="yellow")


def _title(found: Found) -> Text:
    name = (shown(found["model"]), "bold")
    return Text.assemble(name, (f"  {shown(found['url'])} ({found['endpoint']})", "dim"), f"\n{_asked(found)}")


def _asked(found: Found) -> str:
    prompts = f"context {found['context']}" if found["prompts"] is None else f"prompts of {shown(found['prompts'])}"
    return f"{found['load']}, {prompts} → output {found['output']} tokens"


def _verdict(found: Found) -> Table:
    """Whether the numbers hold, before any of them; the reasons say what to do."""
    cut = "stopped early: these are the requests until then" if found["interrupted"] else ""
    if found["valid"]:
        return _pairs([("valid", Text(cut))], style="bold green")
    reasons = [*map(shown, found["reasons"]), *([cut] if cut else [])]
    return _pairs([("not valid:", Text("\n".join(reasons) or "no reason was given", style="red"))], style="bold red")


def _facts(found: Found) -> Table:
    rows = [("requests", Text(_counts(found)))]
    for number, (kind, failure) in enumerate(_failures(found)):
        example = Text(f"{failure['count']:,} {kind}: {shown(failure['example'])}", style="red")
        example.truncate(_EXAMPLE_WIDTH, overflow="ellipsis")
        rows.append(("" if number else "failed", example))
    if found["completed"]:
        facts = (("tokens", _tokens(found)), ("per user", _user(found)), ("goodput", _goodput(found)))
        rows += [(label, Text(said)) for label, said in facts if said]
    if besides := _besides(found):
        rows.append(("besides", Text(besides, style="dim")))
    return _pairs(rows)


def _counts(found: Found) -> str:
    names = ("completed", "failed", "cancelled")
    ends = ", ".join(f"{found[name]:,} {name}" for name in names if found[name] or name == "completed")
    return f"{found['requests']:,} sent: {ends}"


def _besides(found: Found) -> str:
    """What went to the server apart from the measured requests."""
    return ", ".join(f"{found[name]:,} {said}" for name, said in _APART.items() if found[name])


def _failures(found: Found) -> list[tuple[str, Mapping[str, Any]]]:
    """By kind, the commonest first."""
    failures: Mapping[str, Mapping[str, Any]] = found["failures"]
    return sorted(failures.items(), key=lambda item: (-item[1]["count"], item[0]))


def _tokens(found: Found) -> str:
    how = (
        "counted by the server"
        if found["tokens_from"] == "usage"
        else "the server counts none: a chunk is taken as one"
    )
    return f"prompt {_spread(found['prompt_tok'])}, output {_spread(found['output_tok'])}; {how}"


def _spread(stats: Mapping[str, Any] | None) -> str:
    if stats is None:
        return MISSING
    same = stats["min"] == stats["max"]
    return (
        _figure(stats["max"])
        if same
        else " ".join((_figure(stats["mean"]), f"({_figure(stats['min'])} to {_figure(stats['max'])})"))
    )


def _user(found: Found) -> str:
    user = found["user_tok_s"]
    return f"{_figure(user['p50'])} tok/s after the first token (p50)" if user and user["n"] else ""


def _goodput(found: Found) -> str:
    goodput = found["goodput"]
    if goodput is None:
        return ""
    share = f"{goodput['met']:,} of {goodput['asked']:,} ({_percent(goodput['ratio'])})"
    return f"{_figure(goodput['per_s'])} requests/s: {share} meet {goodput['slo']}"


def _rates(found: Found) -> Table:
    table = _columns("", {"output tok/s": 13, "total tok/s": 13, "requests/s": 12, "seconds": 9})
    table.add_row("whole run", *(_figure(found[name]) for name in (*_RATES, "duration_s")))
    if steady := _window(found):
        start_s, end_s = steady["start_s"], steady["end_s"]
        label = f"steady, {_figure(start_s)} to {_figure(end_s)} s"
        table.add_row(label, *(_figure(steady[name]) for name in _RATES), _figure(end_s - start_s))
    return table


def _latencies(found: Found) -> Table:
    table = _columns("ms", {"mean": 9, "p50": 9, "p90": 9, "p99": 9, "": 1, "n": 9})
    for title, rows in _sections(found):
        table.add_row(Text(title, style="bold"))
        for label, stats in rows:
            few = _few(stats)
            mean, p50, p90, p99 = (_figure(stats[stat]) for stat in STATS)
            last = Text(p99, style="dim" if few else "")
            n = Text(_figure(stats["n"] or None), style="dim")
            table.add_row(f"  {label}", mean, p50, p90, last, "*" if few else "", n)
    return table


def _window(found: Found) -> Mapping[str, Any] | None:
    """The steady window; a run that is too short to be judged has none to show."""
    steady: Mapping[str, Any] | None = found["steady"]
    return steady if steady and steady.get("judged", True) else None


def _few(stats: Mapping[str, Any]) -> bool:
    return stats["p99"] is not None and stats["n"] < P99_SAMPLES


def _sections(found: Found) -> list[tuple[str, list[tuple[str, Mapping[str, Any]]]]]:
    """The latencies of the whole run, and of its steady window if there is one."""
    named = CLOSED | OPEN if _is_open(found) else CLOSED
    sections = [("all completed requests", [(label, found[f"{name}_ms"]) for name, label in named.items()])]
    if steady := _window(found):
        rows = [(label, steady[f"{name}_ms"]) for name, label in CLOSED.items()]
        sections.append((f"steady, {_percent(steady['share'])} of the run", rows))
    return sections


def _is_open(found: Found) -> bool:
    return found["rate_per_s"] is not None or found["batch"] is None


def _notes(found: Found, *, mark: str = "") -> list[str]:
    stats = [stats for _, rows in _sections(found) for _, stats in rows]
    said = [f"no steady state: {found['steady_reason']}"] if found["steady_reason"] and not found["steady"] else []
    return said + ([INTENDED] if _is_open(found) else []) + ([mark + FEW] if any(map(_few, stats)) else [])


def _evidence(found: Found) -> str:
    """How far the client, and the server's cache, can be trusted."""
    evidence, kernel = found["evidence"], found["stamp"] == "kernel"
    stamps = {"kernel": "kernel stamps", "user": "client stamps"}.get(found["stamp"], "no stamps")
    said = [f"{stamps} ({found['way']})"]
    if evidence["read_lag_p99_us"] is not None:
        said.append(f"read lag p99 {'' if kernel else 'at least '}{_figure(evidence['read_lag_p99_us'])} us")
    if evidence["schedule_lag_p99_ms"] is not None:
        said.append(f"schedule lag p99 {_figure(evidence['schedule_lag_p99_ms'])} ms")
    if evidence["cpu_ratio"] is not None:
        said.append(f"client CPU {_percent(evidence['cpu_ratio'])}")
    if evidence["achieved_batch"] is not None:
        asked = "" if found["batch"] is None else f" of {found['batch']:,}"
        said.append(f"{_figure(evidence['achieved_batch'])}{asked} in flight")
    known = [f"{_figure(evidence[name])} {how}" for name, how in _CACHE.items() if evidence[name] is not None]
    return ", ".join([*said, *([f"cached prompt tokens {' and '.join(known)}"] if known else [])])


def _panels(found: Found) -> Iterator[Panel]:
    """Markdown goes where nobody can ask back: the verdict stands beside the numbers."""
    title = f"{shown(found['model'])}: {_asked(found)}{'' if found['valid'] else ' (not valid)'}"
    verdict = "Valid." if found["valid"] else f"Not valid: {'; '.join(map(shown, found['reasons']))}"
    notes = [verdict, f"{_counts(found)}."]
    if found["interrupted"]:
        notes.append("Stopped early: these are the requests until then.")
    failures = Result(
        columns=("failed", "count", "example"),
        rows=tuple((kind, failure["count"], failure["example"]) for kind, failure in _failures(found)),
    )
    if found["completed"]:
        rates = f"{_figure(found['output_tok_s'])} output tok/s, {_figure(found['requests_per_s'])} requests/s"
        rows = tuple(
            (window, label, *(stats[stat] for stat in STATS), stats["n"] or None)
            for window, rows in _sections(found)
            for label, stats in rows
        )
        result = Result(columns=("window", "ms", *STATS, "n"), rows=rows)
        notes = [*notes, f"{rates}.", *_notes(found), *found["warnings"]]
        yield Panel(name="latencies", title=title, result=result, keys=2, notes=tuple(notes))
        if failures.rows:
            yield Panel(name="failures", title="Failures", result=failures, keys=1)
    else:
        yield Panel(name="failures", title=title, result=failures, keys=1, notes=(*notes, *found["warnings"]))


def _pairs(rows: Sequence[tuple[str, Text]], *, style: str = "dim") -> Table:
    """A label in its style, and beside it what it says, wrapped under itself."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=style, no_wrap=True)
    grid.add_column()
    for label, said in rows:
        grid.add_row(label, said)
    return grid


def _columns(head: str, columns: Mapping[str, int]) -> Table:
    """A table of fixed widths, so that those below each other line up."""
    table = Table(box=None, pad_edge=False, padding=0, show_edge=False, header_style="dim")
    table.add_column(head, width=_LABEL_WIDTH, no_wrap=True)
    for label, width in columns.items():
        table.add_column(label, width=width, justify="right", no_wrap=True)
    return table


def _figure(value: float | None) -> str:
    """Three or four digits, thousands apart."""
    whole = isinstance(value, int) or (value is not None and math.isfinite(value) and abs(value) >= _THOUSAND)
    return f"{value:,.0f}" if whole else shown(value)


def _percent(ratio: float | None) -> str:
    return MISSING if ratio is None else f"{_figure(100 * ratio)} %"
