"""What a run has spent, and what it can still afford. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import inf

from fleetbench.plan.lane import Running
from fleetbench.plan.rules import Rules
from fleetbench.plan.waiting import Waiting


@dataclass(slots=True)
class Budget:
    """Time since the run began, and money: GPUs that a launch keeps from others, by the hour."""

    rules: Rules
    began_s: float = 0.0
    paid_usd: float = 0.0
    """For launches that ended."""

    def begin(self, now_s: float) -> None:
        self.began_s = now_s

    @property
    def end_s(self) -> float | None:
        """When the run's time is over."""
        return None if self.rules.wall_s is None else self.began_s + self.rules.wall_s

    def pay(self, run: Running, now_s: float) -> None:
        self.paid_usd += self._usd(run, now_s)

    def cost_usd(self, running: Iterable[Running], now_s: float) -> float:
        return self.paid_usd + sum(self._usd(run, now_s) for run in running)

    def spent_s(self, running: Iterable[Running]) -> float | None:
        """When all the money will be spent on what runs; None where that is never."""
        if self.rules.cost_usd is None:
            return None
        rates = [(self._rate(run), run.started_s) for run in running if run.placed]
        if not (rate := sum(usd_s for usd_s, _ in rates)):
            return None
        return (self.rules.cost_usd - self.paid_usd + sum(usd_s * start_s for usd_s, start_s in rates)) / rate

    def left_usd(self, running: Iterable[Running], now_s: float) -> float:
        """What is left when all that was started has run as long as it should."""
        if self.rules.cost_usd is None:
            return inf
        ends = (
            self._rate(run) * max(run.waiting.seconds, now_s - run.started_s if run.placed else 0.0) for run in running
        )
        return self.rules.cost_usd - self.paid_usd - sum(ends)

    def usd(self, one: Waiting, gpus: int) -> float:
        """What it should cost where it keeps so many GPUs."""
        return self._price(one.launch.hardware) * gpus * one.seconds / 3600

    def over(self, running: Collection[Running], now_s: float) -> str | None:
        """Why the run is to end."""
        wall_s, most_usd = self.rules.wall_s, self.rules.cost_usd
        if wall_s is not None and now_s >= self.began_s + wall_s:
            return f"the run's time of {wall_s:g} s is over (limits: wall)"
        if most_usd is None:
            return None
        if self.cost_usd(running, now_s) >= most_usd * (1 - 1e-9):
            return f"the run's {most_usd:g} USD are spent (limits: cost_usd)"
        return None

    def _usd(self, run: Running, until_s: float) -> float:
        """Nothing while it waits to be placed."""
        return self._rate(run) * (until_s - run.started_s) if run.placed else 0.0

    def _rate(self, run: Running) -> float:
        return self._price(run.launch.hardware) * (run.held or run.gpus) / 3600

    def _price(self, hardware: str) -> float:
        return self.rules.price_usd_h.get(hardware, 0.0)
