"""`fleetbench` inside this process: the same words and exit codes, without the seconds that a start takes."""

from __future__ import annotations

import io
import os
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from fleetbench.cli.main import main
from tests.cli.shell import Said


def inside(*arguments: str, folder: Path, **more: str) -> Said:
    """What a command says; the catalog is read once per process, so a folder of one's own needs `shell.fleetbench`."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    environment = {
        "COLUMNS": "80",
        "FLEETBENCH_WAREHOUSE": str(folder / "warehouse"),
        "FLEETBENCH_NODE": "",
        "HF_HUB_CACHE": str(folder / "hub"),
        **more,
    }
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", ["fleetbench", *arguments]),
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return Said(code, out.getvalue(), err.getvalue())
