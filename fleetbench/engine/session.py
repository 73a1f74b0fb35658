"""An engine that is up, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from fleetbench.engine import endings
from fleetbench.engine.client import ask, request
from fleetbench.engine.follower import RankEnd
from fleetbench.engine.guarded import Guarded
from fleetbench.engine.protocol import Ask, Cause, EngineUnreachableError, Receipt, Sign

ANSWER_S = 5.0
STOP_GRACE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """How a running engine is talked to."""

    health: str
    metrics: str
    reset: Ask | None
    signs: tuple[Sign, ...]


class Others(Protocol):
    """The ranks of an engine on other nodes."""

    def ended(self) -> RankEnd | None:
        """How the first of them ended; None while all run."""

    def ends(self, end: Callable[[], object]) -> None:
        """What to do once one of them ends."""


class EngineSession:
    """One engine that is up; guarded is None for a server that somebody else started."""

    def __init__(
        self,
        *,
        receipt: Receipt,
        guarded: Guarded | None,
        log: Path,
        ways: Ways,
        memory_kills: int = 0,
        others: Others | None = None,
    ) -> None:
        self.receipt = receipt
        self.log = log
        self._guarded = guarded
        self._ways = ways
        self._memory_kills = memory_kills
        self._others = others

    @property
    def guarded(self) -> Guarded:
        if self._guarded is None:
            raise EngineUnreachableError(f"{self.receipt.base_url} was not started here")
        return self._guarded

    def alive(self) -> bool:
        return self._ended() is None

    def exit_cause(self) -> Cause | None:
        ended = self._ended()
        return ended[0] if ended else None

    def exit_reason(self) -> str | None:
        ended = self._ended()
        return ended[1] if ended else None

    def _ended(self) -> tuple[Cause, str] | None:
        if self._guarded is None:
            return self._silent()
        ended = self._guarded.poll()
        other = self._others.ended() if self._others is not None else None
        if other is not None and (ended is None or ended.cause == "stopped"):  # by us, since the other was gone
            return other.cause, other.reason
        if ended is None:
            return None
        kills = endings.oom_kills() - self._memory_kills
        return endings.explain(ended, endings.tail(self.log), memory_kills=kills, signs=self._ways.signs)

    def _silent(self) -> tuple[Cause, str] | None:
        """A server that somebody else started lives as long as it answers at all."""
        try:
            request(self.receipt.base_url, self._ways.health, timeout_s=ANSWER_S)
        except EngineUnreachableError as error:
            return "crashed", f"the server at {self.receipt.base_url} does not answer: {error}"
        return None

    def log_tail(self, lines: int = 20) -> str:
        return endings.tail(self.log, lines)

    def metrics_text(self) -> str:
        return ask(self.receipt.base_url, self._ways.metrics, timeout_s=ANSWER_S).decode(errors="replace")

    def reset_cache(self) -> bool:
        """Empties the engine's prefix cache; False where there is none or no way to."""
        way = self._ways.reset
        if way is None:
            return False
        status, content = request(self.receipt.base_url, way.path, timeout_s=ANSWER_S, method=way.method)
        if status != HTTPStatus.OK:
            raise EngineUnreachableError(f"{way.path}: status {status}: {content[:200]!r}")
        return True

    def stop(self) -> None:
        if self._guarded is not None:
            self._guarded.stop(STOP_GRACE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
