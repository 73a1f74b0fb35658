"""A rank above 0 of an engine over several nodes: it serves nobody, and the engine ends when it does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleetbench.engine import endings
from fleetbench.engine.guarded import Guarded
from fleetbench.engine.protocol import Cause, Sign

STOP_GRACE_S = 5.0
TAIL_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEnd:
    """How a rank ended: the cause in a word, a sentence, and the last lines of its log."""

    cause: Cause
    reason: str
    log_tail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """One that runs; log: where its output goes; memory_kills: of the kernel, before it began."""

    guarded: Guarded
    log: Path
    signs: tuple[Sign, ...]
    memory_kills: int

    def wait(self, timeout_s: float) -> RankEnd | None:
        """How it ended; None when it still runs after `timeout_s`."""
        ended = self.guarded.wait(timeout_s)
        if ended is None:
            return None
        kills = endings.oom_kills() - self.memory_kills
        cause, reason = endings.explain(ended, endings.tail(self.log), memory_kills=kills, signs=self.signs)
        return RankEnd(cause=cause, reason=reason, log_tail=endings.tail(self.log, TAIL_LINES))

    def stop(self) -> None:
        self.guarded.stop(STOP_GRACE_S)
