"""What a person sees on stderr while a run goes on."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleetbench.matrix.types import LoadPoint, Outcome
from fleetbench.plan.machine import Event, LaunchEnded, LaunchLost, Record, Start, TrialEnded, TrialStarted
from fleetbench.plan.types import EngineLaunch, Plan, Trial

_REASONS_SHOWN = 5


class _Watched(Console):
    """A console whose reader may leave: the run goes on, where rich by itself would end it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class RunView:
    """A bar, the launch and trial at work, and the cells; plain lines where stderr is no terminal."""

    def __init__(self, plan: Plan, todo: Plan, estimated_s: Mapping[str, float], *, settled: int) -> None:
        self.console = _Watched(stderr=True, highlight=False)
        self.launches = {launch.launch_id: launch for launch in todo.launches}
        self.trials = {trial.trial_id: trial for trial in plan.trials}
        self.title = escape(f"{plan.matrix.name} (run {plan.run})")
        self.cells = len(plan.cells)
        self.refused = Counter((refusal.rule, refusal.sentence) for refusal in plan.refusals)
        self.total = len(plan.trials)
        self.ended = settled
        self.left = Counter(trial.cell.cell_id for trial in todo.trials)
        self.left.update({cell.cell_id: 0 for cell in plan.cells})
        self.bad: set[str] = set()
        self.began: dict[str, float] = {}
        self.estimated_s = dict(estimated_s)
        self.planned_s = 0.0
        self.order = 0
        self.now: Trial | None = None
        self.launch: EngineLaunch | None = None
        self.tok_s: float | None = None
        self.started = time.monotonic()
        self.live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live = Live(console=self.console, refresh_per_second=4, transient=True, get_renderable=self.render)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def introduce(self) -> None:
        """What is about to happen."""
        plan, todo = self.trials, self.launches
        done = f", {self.ended} of {self.total} trials already done" if self.ended else ""
        self.say(f"[bold]{self.title}[/]: {self.cells} cells, {len(plan)} trials in {len(todo)} engine launches{done}")
        if self.refused:
            self.say(f"  {self.refused.total()} cells are refused:")
            for (rule, sentence), count in self.refused.most_common(_REASONS_SHOWN):
                self.say(f"    {count} by {rule}: {escape(sentence)}")
            if (more := len(self.refused) - _REASONS_SHOWN) > 0:
                self.say(f"    and {more} more reasons, in the table refusals")

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(Text.from_markup(text), soft_wrap=not self.console.is_terminal)

    def watch(self, event: Start | Record | Event) -> None:
        """Take note of what happened."""
        match event:
            case Start():
                self.order += 1
                self.launch = event.launch
                self.began[event.launch.launch_id] = time.monotonic()
            case TrialStarted():
                self.now = self.trials.get(event.trial_id)
            case TrialEnded():
                self._end(event.trial_id, event.outcome, event.reason)
                self.tok_s = event.output_tok_s or self.tok_s
            case Record():
                self._end(event.trial.trial_id, event.outcome, event.reason)
            case LaunchEnded() | LaunchLost():
                self._launch_line(event)
            case _:
                pass

    def _end(self, trial_id: str, outcome: Outcome, reason: str | None) -> None:
        self.now = None
        self.ended += 1
        self.planned_s += self.estimated_s.pop(trial_id, 0.0)
        trial = self.trials[trial_id]
        self.left[trial.cell.cell_id] -= 1
        if outcome is Outcome.OK:
            return
        self.bad.add(trial.cell.cell_id)
        self.say(f"  [red]{outcome.value}[/] {escape(describe(trial))}: {_one_line(reason)}")

    def _launch_line(self, event: LaunchEnded | LaunchLost) -> None:
        launch = self.launches[event.launch_id]
        taken = time.monotonic() - self.began.get(event.launch_id, self.started)
        ok = isinstance(event, LaunchEnded) and event.outcome is Outcome.OK
        mark = "[green]✓[/]" if ok else "[red]✗[/]"
        place = f"{self.order}/{max(self.order, len(self.launches))}"
        speed = f"  last {self.tok_s:,.0f} tok/s" if ok and self.tok_s and _measures_speed(launch) else ""
        self.say(
            f"{mark} [dim]{place:>5}[/]  {escape(launch.label):<28}{len(launch.trials):>3} trials {taken:6.1f} s{speed}"
        )
        if not ok:
            self.say(f"        {_one_line(event.reason)}")

    def render(self) -> Group:
        """The live part: how far, what now, and the cells."""
        grid = Table.grid(padding=(0, 1))
        speed = f"{self.tok_s:,.0f} tok/s" if self.tok_s else ""
        bar = ProgressBar(total=self.total, completed=self.ended, width=34)
        grid.add_row(bar, f"{self.ended}/{self.total} trials", speed, self._left())
        return Group(grid, self._now(), self._cells())

    def _now(self) -> Text:
        if self.launch is None:
            return Text("starting Ray")
        what = describe(self.now, model=False) if self.now else "starting the engine"
        place = f"launch {self.order}/{max(self.order, len(self.launches))}"
        return Text.assemble(f"{place}  ", (self.launch.label, "bold"), f"  {what}")

    def _cells(self) -> Text:
        running = 1 if self.now else 0
        bad = len(self.bad)
        waiting = sum(left > 0 and cell not in self.bad for cell, left in self.left.items())
        done = len(self.left) - waiting - bad
        said = f"cells: {done} done, {running} running, "
        return Text.assemble(said, (f"{bad} failed", "red" if bad else ""), f", {max(0, waiting - running)} waiting")

    def _left(self) -> str:
        rest = sum(self.estimated_s.values())
        elapsed = time.monotonic() - self.started
        scale = elapsed / self.planned_s if self.planned_s > 0 else 1.0
        minutes, seconds = divmod(int(rest * scale), 60)
        return f"{minutes}:{seconds:02d} left"


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
