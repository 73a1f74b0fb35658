"""What a person sees on stderr who watches a run that another process drives."""

from __future__ import annotations

import re
import time

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleetbench.cli.live import Drawn
from fleetbench.cli.status_text import describe, done, failed, lasted, remark, work
from fleetbench.fleet.control.sighting import Sighting

_DAY = re.compile(r"^\d{4}-\d\d-\d\dT(?=\d\d:\d\d:\d\dZ )")


class StatusView(Drawn):
    """A bar, the launches at work and what is blocked; plain lines where stderr is no terminal."""

    def __init__(self) -> None:
        super().__init__(per_second=2)
        self.seen: Sighting | None = None
        self.first: str | None = None
        self.said: str | None = None

    def show(self, seen: Sighting) -> None:
        """How the run stands now; a change that is no line of its log is said."""
        if self.seen is None:
            self.first = seen.condition
            for line in describe(seen, time.time())[:2]:
                self._print(line)
        self.seen = seen
        said = remark(seen) if seen.driven else None
        if said is not None and said != self.said:
            self._print(Text(f"{seen.condition}: {said}", style="yellow"))
        self.said = said

    def say(self, line: str) -> None:
        """A line of the run's log, without its day."""
        self._print(Text(_DAY.sub("", line)))

    def conclude(self) -> None:
        """The last that is known."""
        if self.seen is None:
            return
        lines = describe(self.seen, time.time())
        for line in lines[2:] if self.first == self.seen.condition else lines[1:]:
            self._print(line)

    def _print(self, text: Text) -> None:
        self.console.print(text, soft_wrap=not self.console.is_terminal)

    def render(self) -> Group:
        """The live part."""
        if self.seen is None or (status := self.seen.status) is None:
            return Group(Text("waiting for the run's controller"))
        grid = Table.grid(padding=(0, 1))
        bad = failed(status)
        left = f"{lasted(status.left_s)} left" if status.left_s is not None else ""
        grid.add_row(
            ProgressBar(total=max(status.trials, 1), completed=done(status), width=34),
            f"{done(status)}/{status.trials} trials",
            Text(f"{bad} failed", style="red") if bad else "",
            left,
            f"{status.cost_usd:.2f} USD" if status.cost_usd is not None else "",
        )
        room = max(self.console.height - 6, 1)
        return Group(grid, *work(status, time.time(), driven=True, most=room)[: room + 3])
