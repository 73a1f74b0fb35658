"""The `fleetbench` program's first lines: until there is somebody who can say so, Ctrl-C just ends it."""

from __future__ import annotations

import signal


def main() -> None:
    """Entry point of the `fleetbench` command."""
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever started this may have ignored them, and that is inherited
        signal.signal(number, signal.SIG_DFL)
    from fleetbench.cli.main import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
