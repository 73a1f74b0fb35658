"""What a `submit` was asked on its command line, and how to ask it again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The options of `submit`, by their names."""

    matrix: Path
    run: str
    new: bool
    retry_failed: bool
    only: str | None
    first: str | None
    address: str | None
    token: Path | None
    detach: bool
    wait_s: float | None
    warehouse: Path

    def command(self, *, retry_failed: bool = False) -> str:
        """The command line that goes on with the run; with what failed in it too, if asked now or then."""
        given: dict[str, str | None] = {
            "--run": self.run,
            "--warehouse": str(self.warehouse),
            "--only": self.only,
            "--first": self.first,
            "--address": self.address,
            "--token": None if self.token is None else str(self.token),
            "--wait-for-nodes": None if self.wait_s is None else f"{self.wait_s:g}s",
        }
        words = [word for name, value in given.items() if value is not None for word in (name, value)]
        again = ["--retry-failed"] if retry_failed or self.retry_failed else []
        return shlex.join(["fleetbench", "submit", str(self.matrix), *words, *again])
