"""What a person sees on stderr while a run goes on."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleetbench.fleet.control.folding import Bad, counted, fold
from fleetbench.fleet.control.status import RunStatus
from fleetbench.matrix.types import LoadPoint, Outcome
from fleetbench.plan.events import (
    Event,
    FleetSeen,
    LaunchEnded,
    LaunchLost,
    Placed,
    Record,
    Start,
    TrialEnded,
    TrialStarted,
)
from fleetbench.plan.types import EngineLaunch, Plan, Trial

_REASONS_SHOWN = 5
_ACTIVE_SHOWN = 8


@dataclass(slots=True)
class _Active:
    """A launch that was started; order: among all that were."""

    launch: EngineLaunch
    order: int
    began: float
    node: str | None = None
    trial: Trial | None = None


class Watched(Console):
    """A console whose reader may leave: the run goes on, where rich by itself would end it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Drawn(ABC):
    """Lines on stderr that stay, and on a terminal a part below them that is drawn anew."""

    def __init__(self, *, per_second: int) -> None:
        self.console = Watched(stderr=True, highlight=False)
        self._per_second = per_second
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(
                console=self.console,
                refresh_per_second=self._per_second,
                transient=True,
                get_renderable=self.render,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @abstractmethod
    def render(self) -> Group:
        """The part that is drawn anew."""


class RunView(Drawn):
    """A bar, the launch and trial at work, and the cells; plain lines where stderr is no terminal."""

    def __init__(self, plan: Plan, todo: Plan, estimated_s: Mapping[str, float], *, settled: int) -> None:
        super().__init__(per_second=4)
        self.launches = {launch.launch_id: launch for launch in todo.launches}
        self.trials = {trial.trial_id: trial for trial in plan.trials}
        self.title = escape(f"{plan.matrix.name} (run {plan.run})")
        self.cells = len(plan.cells)
        self.refused = Counter((refusal.rule, refusal.sentence) for refusal in plan.refusals)
        self.total = len(plan.trials)
        self.settled = settled
        self.ended: set[str] = set()
        self.left = Counter(trial.cell.cell_id for trial in todo.trials)
        self.left.update({cell.cell_id: 0 for cell in plan.cells})
        self.wrong: dict[str, str] = {}
        """Cells of trials that did not end well, by trial."""
        self.active: dict[str, _Active] = {}
        self.nodes: dict[str, str] = {}
        self.blocked: dict[str, str] = {}
        self.bad: list[Bad] = []
        self.estimated_s = dict(estimated_s)
        self.planned_s = 0.0
        self.order = 0
        self.tok_s: float | None = None
        self.started = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._say_bad()
        super().__exit__(kind, error, trace)

    def introduce(self) -> None:
        """What is about to happen."""
        plan, todo = self.trials, self.launches
        done = f", {self.settled} of {self.total} trials already done" if self.settled else ""
        refused = f"{self.refused.total()} cells are refused:"
        if plan:
            todo_said = f"{len(plan)} trials in {len(todo)} engine launches"
            self.say(f"[bold]{self.title}[/]: {self.cells} cells, {todo_said}{done}")
            refused = f"  {refused}"
        else:
            refused = f"[bold]{self.title}[/]: nothing can run, all {refused}"
        if self.refused:
            self.say(refused)
            for (rule, sentence), count in self.refused.most_common(_REASONS_SHOWN):
                self.say(f"    {count} by {rule}: {escape(sentence)}", hang=6)
            if (more := len(self.refused) - _REASONS_SHOWN) > 0:
                self.say(f"    and {more} more reasons, in the table refusals")

    def say(self, text: str, *, hang: int = 0) -> None:
        """One line that stays; where a terminal is too narrow for it, what follows is set in by `hang`."""
        said = Text.from_markup(text)
        if self.console.is_terminal:
            lines = said.wrap(self.console, max(self.console.width - hang, 1))
            said = Text("\n" + " " * hang).join(lines)
        self.console.print(said, soft_wrap=not self.console.is_terminal)

    def remark(self, text: str) -> None:
        """What somebody else wants to be known."""
        self.say(f"[yellow]note[/]: {escape(text)}")

    def tell(self, status: RunStatus) -> None:
        """Say what went wrong since, and what keeps work waiting: that once each time that it changes."""
        self._say_bad()
        for kind, why in status.blocked.items():
            if _cause(self.blocked.get(kind, "")) != _cause(why):
                self.say(f"[yellow]blocked[/] {escape(kind)}: {escape(why)}", hang=4)
        self.blocked = dict(status.blocked)

    def watch(self, event: Start | Record | Event) -> None:
        """Take note of what happened."""
        match event:
            case FleetSeen():
                self.nodes = {seen.node.node_id: seen.node.name for seen in event.nodes}
            case Start():
                self.order += event.attempt == 0
                order = self.active.get(event.launch.launch_id)
                self.active[event.launch.launch_id] = _Active(
                    launch=event.launch, order=order.order if order else self.order, began=time.monotonic()
                )
            case Placed() if event.launch_id in self.active and len(self.nodes) > 1:
                self.active[event.launch_id].node = ", ".join(self.nodes.get(one, one[:8]) for one in event.node_ids)
            case TrialStarted() if event.launch_id in self.active:
                self.active[event.launch_id].trial = self.trials.get(event.trial_id)
            case TrialEnded():
                self._end(event.launch_id, event.trial_id, event.outcome, event.reason)
                self.tok_s = event.output_tok_s or self.tok_s
            case Record():
                self._end(event.launch.launch_id, event.trial.trial_id, event.outcome, event.reason)
            case LaunchEnded() | LaunchLost():
                self._launch_line(event)
            case _:
                pass

    def _end(self, launch_id: str, trial_id: str, outcome: Outcome, reason: str | None) -> None:
        if (active := self.active.get(launch_id)) is not None:
            active.trial = None
        trial = self.trials[trial_id]
        if trial_id not in self.ended:
            self.ended.add(trial_id)
            self.planned_s += self.estimated_s.pop(trial_id, 0.0)
            self.left[trial.cell.cell_id] -= 1
        if outcome is Outcome.OK:
            self.wrong.pop(trial_id, None)
            return
        self.wrong[trial_id] = trial.cell.cell_id
        self.bad.append(Bad(trial=trial, outcome=outcome, reason=_one_line(reason)))

    def _say_bad(self) -> None:
        """Trials that ended badly since it was called last, those that are alike in one line."""
        for one in fold(self.bad):
            which = describe(one.trials[0]) if len(one.trials) == 1 else counted(one.trials)
            self.say(f"  [red]{one.outcome.value}[/] {escape(which)}: {one.reason}", hang=4)
        self.bad.clear()

    def _launch_line(self, event: LaunchEnded | LaunchLost) -> None:
        self._say_bad()
        active = self.active.pop(event.launch_id, None)
        if active is None:
            return
        launch = active.launch
        taken = time.monotonic() - active.began
        ok = isinstance(event, LaunchEnded) and event.outcome is Outcome.OK
        bad = sum(trial.trial_id in self.wrong for trial in launch.trials)
        mark = "[red]✗[/]" if not ok else "[yellow]![/]" if bad else "[green]✓[/]"
        place = f"{active.order}/{max(self.order, len(self.launches))}"
        speed = f"  last {self.tok_s:,.0f} tok/s" if ok and self.tok_s and _measures_speed(launch) else ""
        where = f"  {escape(active.node)}" if active.node else ""
        self.say(
            f"{mark} [dim]{place:>5}[/]  {escape(self._label(launch)):<28}{len(launch.trials):>3} trials {taken:6.1f} s"
            f"{where or speed}"
        )
        if not ok:
            self.say(f"        {_one_line(event.reason)}", hang=8)

    def render(self) -> Group:
        """The live part: how far, what now, and the cells."""
        grid = Table.grid(padding=(0, 1))
        speed = f"{self.tok_s:,.0f} tok/s" if self.tok_s else ""
        ended = self.settled + len(self.ended)
        bar = ProgressBar(total=self.total, completed=ended, width=34)
        grid.add_row(bar, f"{ended}/{self.total} trials", speed, self._left())
        return Group(grid, *self._now(), self._cells())

    def _now(self) -> list[Text]:
        if not self.active:
            return [Text("starting Ray" if not self.order else "waiting")]
        shown = list(self.active.values())[:_ACTIVE_SHOWN]
        lines = [self._line(one) for one in shown]
        if (more := len(self.active) - len(shown)) > 0:
            lines.append(Text(f"and {more} more launches"))
        return lines

    def _line(self, one: _Active) -> Text:
        waits = len(self.nodes) > 1 and one.node is None
        what = describe(one.trial, model=False) if one.trial else "waiting for GPUs" if waits else "starting the engine"
        place = f"launch {one.order}/{max(self.order, len(self.launches))}"
        return Text.assemble(
            f"{place}  ", (self._label(one.launch), "bold"), f"  {f'{one.node}: ' if one.node else ''}{what}"
        )

    def _label(self, launch: EngineLaunch) -> str:
        """With its hardware, where the run has several kinds."""
        several = len({one.hardware for one in self.launches.values()}) > 1
        return f"{launch.label} {launch.hardware}" if several else launch.label

    def _cells(self) -> Text:
        running = len({one.trial.cell.cell_id for one in self.active.values() if one.trial})
        bad = set(self.wrong.values())
        waiting = sum(left > 0 and cell not in bad for cell, left in self.left.items())
        done = len(self.left) - waiting - len(bad)
        said = f"cells: {done} done, {running} running, "
        failed = (f"{len(bad)} failed", "red" if bad else "")
        return Text.assemble(said, failed, f", {max(0, waiting - running)} waiting")

    def _left(self) -> str:
        rest = sum(self.estimated_s.values())
        elapsed = time.monotonic() - self.started
        scale = elapsed / self.planned_s if self.planned_s > 0 else 1.0
        minutes, seconds = divmod(int(rest * scale), 60)
        return f"{minutes}:{seconds:02d} left"


def _cause(blocked: str) -> str:
    """Without how many launches wait, which changes all the time."""
    return blocked.partition(": ")[2]


def describe(trial: Trial, *, model: bool = True) -> str:
    """A trial in words."""
    cell = trial.cell
    head = f"{cell.model.name} {cell.recipe.name} " if model else ""
    if isinstance(cell.work, LoadPoint):
        load = f"batch {cell.work.batch}" if cell.work.rate is None else f"rate {cell.work.rate:g}"
        return f"{head}{load} context {cell.work.context_tok} repeat {trial.repeat + 1}"
    return f"{head}quality suite {cell.work.suite}"


def _measures_speed(launch: EngineLaunch) -> bool:
    return any(trial.cell.kind == "speed" for trial in launch.trials)


def _one_line(text: str | None) -> str:
    lines = (text or "no reason was given").strip().splitlines()
    return escape(lines[0]) if lines else ""


def note(text: str) -> None:
    """A line for the person at the terminal, apart from the results on stdout."""
    print(text, file=sys.stderr)
