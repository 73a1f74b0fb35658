"""`fleetbench` as a user runs it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


def fleetbench(*arguments: str, folder: Path, **environment: str) -> Said:
    done = subprocess.run(
        [sys.executable, "-m", "fleetbench", *arguments],
        env={**os.environ, "COLUMNS": "80", "FLEETBENCH_WAREHOUSE": str(folder / "warehouse"), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)
