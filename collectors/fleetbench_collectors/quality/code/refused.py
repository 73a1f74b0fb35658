"""Why no code is run here."""

from __future__ import annotations


class SandboxRefusedError(Exception):
    """This machine gives no sandbox that holds; `reason` says in a sentence why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"generated code cannot be run safely on this machine: {self.reason}. Leave the code items out, or allow "
            "namespaces (a user's own, or root with CAP_SYS_ADMIN) on Linux 5.12 or later"
        )
