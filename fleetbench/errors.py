"""The exceptions that some caller treats differently; only `cli` turns them into an exit code."""

from __future__ import annotations


class FleetbenchError(Exception):
    """Something foreseeable; its text says what is wrong, where, and what to do next."""


class InputError(FleetbenchError):
    """What the user gave is wrong (exit 2): every mistake at once, one per line."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__(mistakes)
        self.mistakes = mistakes

    def __str__(self) -> str:
        return "\n".join(self.mistakes)


class UnusableEnvironmentError(FleetbenchError):
    """This machine or cluster cannot do it (exit 4): no disk, no rights, no Ray."""
