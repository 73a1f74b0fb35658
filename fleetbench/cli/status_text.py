"""How a run stands, in lines that fit a page."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from fleetbench.fleet.control.sighting import Condition, Sighting
from fleetbench.fleet.control.status import LaunchStatus, RunStatus
from fleetbench.report.cell import shown
from fleetbench.report.result import PAGE, Result

LAUNCHES_SHOWN = 12
_NOW_S = 5
_NAME_LEAST = 12
_STYLES: dict[Condition, str] = {
    "running": "green",
    "ended": "bold",
    "interrupted": "yellow",
    "failed": "red",
    "waiting": "yellow",
    "starting": "yellow",
    "gone": "red",
    "silent": "red",
    "unknown": "red",
}
_GO_ON = "what is done is kept, and the same `fleetbench submit` goes on"
_COLUMNS = (
    "run_id",
    "matrix",
    "run",
    "state",
    "trials",
    "done",
    "ok",
    "outcomes",
    "launches_running",
    "launches_waiting",
    "left_s",
    "cost_usd",
    "host",
    "pid",
    "cluster",
    "warehouse",
    "submitted",
    "updated",
    "why",
    "blocked",
    "unfit",
    "running",
)


def lasted(seconds: float) -> str:
    """`m:ss`, or `h:mm:ss`."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def ago(seconds: float) -> str:
    """A few signs: `now`, `5 m`, `3 h`, `2 d`."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "now" if seconds < _NOW_S else f"{int(seconds)} s"


def done(status: RunStatus) -> int:
    """Trials that have an outcome."""
    return sum(status.outcomes.values())


def failed(status: RunStatus) -> int:
    return done(status) - status.outcomes.get("ok", 0)


def remark(seen: Sighting) -> str | None:
    """What a condition means, and what to do next; None where it speaks for itself."""
    why = f"{seen.why}: " if seen.why else ""
    match seen.condition:
        case "gone" | "interrupted":
            return f"{why}{_GO_ON}"
        case "waiting":
            return "no launch can run now: it waits for nodes, or for those that others use"
        case _:
            return seen.why


def describe(seen: Sighting, now_s: float) -> list[Text]:
    """A run in a few lines, at most a page wide but for sentences."""
    status = seen.status
    if status is None:
        return [
            _title(seen.run_id, seen.matrix, seen.run),
            Text(f"{seen.condition}: {remark(seen) or 'no more is known'}"),
            *_results(seen),
        ]
    lines = [_title(seen.run_id, status.matrix, status.run), _state_line(seen, status, now_s)]
    if (said := remark(seen)) is not None:
        lines.append(Text(said))
    trials = Text(_trials_line(status, driven=seen.driven))
    return [*lines, trials, *work(status, now_s, driven=seen.driven), *_results(seen)]


def _title(run_id: str, matrix: str, run: str) -> Text:
    if not run:
        return Text(f"run {run_id}", style="bold")
    return Text.assemble((f"{shown(matrix)}/{shown(run)}", "bold"), f" (run {run_id})")


def _results(seen: Sighting) -> list[Text]:
    """Where the results are of a run that a cluster tells of, and is no more driven there."""
    if seen.driven or not seen.on_cluster or seen.condition == "failed":
        return []
    where = f"--warehouse {shlex.quote(seen.results)}" if seen.results else "--warehouse DIR"
    host = f", on {shown(seen.status.host)}" if seen.status and seen.results else ""
    return [Text(f"more by: fleetbench status {seen.run_id} {where}{host}")]


def work(status: RunStatus, now_s: float, *, driven: bool, most: int = LAUNCHES_SHOWN) -> list[Text]:
    """What runs, and what keeps the rest from it."""
    lines = []
    if driven and (status.running or status.waiting):
        lines.append(Text(f"launches: {len(status.running)} running, {status.waiting} waiting"))
        lines += _launches(status.running[:most], now_s)
        if (more := len(status.running) - most) > 0:
            lines.append(Text(f"  and {more} more", style="dim"))
    if driven:
        lines += [Text(f"blocked {shown(kind)}: {shown(why)}", style="yellow") for kind, why in status.blocked.items()]
    return lines + [Text(f"not measured on {shown(node)}: {shown(why)}") for node, why in status.unfit.items()]


def _state_line(seen: Sighting, status: RunStatus, now_s: float) -> Text:
    until = now_s if seen.driven else status.updated_s
    where = f"on {shown(status.host)} (process {status.pid})"
    if status.address:
        where += f", cluster {shown(status.address)}"
    when = f" at {_moment(status.updated_s)}, after" if not seen.driven else ""
    verb = (seen.condition, _STYLES[seen.condition])
    return Text.assemble(verb, f"{when} {lasted(until - status.submitted_s)} {where}")


def _trials_line(status: RunStatus, *, driven: bool) -> str:
    counts = ", ".join(f"{count} {shown(outcome)}" for outcome, count in sorted(status.outcomes.items()) if count)
    line = f"trials: {done(status)} of {status.trials}" + (f": {counts}" if counts else "")
    if driven and status.left_s is not None and done(status) < status.trials:
        line += f"; about {lasted(status.left_s)} left"
    return line + (f"; {status.cost_usd:.2f} USD" if status.cost_usd is not None else "")


def _launches(launches: Sequence[LaunchStatus], now_s: float) -> list[Text]:
    """A line each: what, where, what is measured, how many of its trials are done, since when."""
    rows = [
        (
            f"{shown(one.label)} {shown(one.hardware)}" + (f" try {one.attempt + 1}" if one.attempt else ""),
            shown(one.node) if one.node else "to be placed",
            shown(one.trial) if one.trial else "starting" if one.node else "",
            f"{one.done}/{one.trials}",
            lasted(now_s - one.since_s),
        )
        for one in launches
    ]
    widths = [max((cell_len(row[n]) for row in rows), default=0) for n in range(5)]
    room = PAGE - 2 - 2 * 4 - sum(widths[2:])
    for n, least in ((0, 20), (1, 10)):  # the label is cut first
        over = sum(widths[:2]) - room
        widths[n] -= min(max(over, 0), max(widths[n] - least, 0))
    return [
        Text("  " + "  ".join(_fit(text, width) for text, width in zip(row, widths, strict=True)).rstrip())
        for row in rows
    ]


def _fit(text: str, width: int) -> str:
    return set_cell_size(_at_most(text, width), width)


def _at_most(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)) + "…"


def _moment(seconds: float) -> str:
    return f"{_utc(seconds):%H:%M:%S} UTC"


def _utc(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def rows(sightings: Sequence[Sighting]) -> Result:
    """All that is known, a row a run, for programs."""
    return Result(columns=_COLUMNS, rows=tuple(tuple(_row(seen).get(name) for name in _COLUMNS) for seen in sightings))


def _row(seen: Sighting) -> dict[str, object]:
    _, run, matrix = seen.names
    known: dict[str, object] = {
        "run_id": seen.run_id,
        "matrix": matrix or None,
        "run": run or None,
        "state": seen.condition,
        "why": seen.why,
        "warehouse": seen.results,
    }
    if (status := seen.status) is None:
        return known
    return known | {
        "trials": status.trials,
        "done": done(status),
        "ok": status.outcomes.get("ok", 0),
        "outcomes": dict(status.outcomes),
        "launches_running": len(status.running) if seen.driven else 0,
        "launches_waiting": status.waiting if seen.driven else 0,
        "left_s": status.left_s if seen.driven else None,
        "cost_usd": status.cost_usd,
        "host": status.host,
        "pid": status.pid,
        "cluster": status.address,
        "submitted": _utc(status.submitted_s),
        "updated": _utc(status.updated_s),
        "blocked": dict(status.blocked) if seen.driven else {},
        "unfit": dict(status.unfit),
        "running": [_launch(one) for one in status.running] if seen.driven else [],
    }


def _launch(one: LaunchStatus) -> dict[str, object]:
    return {
        "launch_id": one.launch_id,
        "label": one.label,
        "hardware": one.hardware,
        "attempt": one.attempt,
        "node": one.node,
        "trial": one.trial,
        "done": one.done,
        "trials": one.trials,
        "since": _utc(one.since_s),
    }


def brief(sightings: Sequence[Sighting], now_s: float, *, width: int | None = None) -> Result:
    """The same for a narrow page; heard: how long ago its controller said something.

    width: of the page; names are cut to it, for their run_ids tell runs apart.
    """
    columns = ("run_id", "run", "state", "done", "failed", "active", "left", "heard")
    found = [_brief(seen, now_s) for seen in sightings]
    if width is not None:
        rest = (0, *range(2, len(columns)))
        taken = sum(max(cell_len(shown(row[n])) for row in (columns, *found)) + 2 for n in rest)
        room = max(width - taken, _NAME_LEAST)
        found = [(row[0], _at_most(shown(row[1]), room), *row[2:]) for row in found]
    return Result(columns=columns, rows=tuple(found))


def _brief(seen: Sighting, now_s: float) -> tuple[object, ...]:
    _, run, matrix = seen.names
    name = f"{matrix}/{run}" if run else None
    if (status := seen.status) is None:
        return (seen.run_id, name, seen.condition, *(None,) * 5)
    return (
        seen.run_id,
        name,
        seen.condition,
        f"{done(status)}/{status.trials}",
        failed(status),
        len(status.running) if seen.driven else 0,
        lasted(status.left_s) if seen.driven and status.left_s is not None else None,
        ago(now_s - status.updated_s),
    )
