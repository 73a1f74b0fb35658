"""`fleetbench` as a Ray job on a cluster's head: its matrix comes with the job, its output is one stream.

Called by the entry point that `fleetbench.fleet.jobs.runs` sends; not for people.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from fleetbench.cli.main import main
from fleetbench.fleet.jobs.marks import MARK, MATRIX

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PREFIX = "fb-job-"
CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Where Ray tells a job's driver of its job."""


class Marking(io.RawIOBase):
    """Writes to a file descriptor, each line begun by a mark: Ray keeps both streams of a job as one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._begin = True

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: ReadableBuffer, /) -> int:
        text = bytes(data)
        lines = text.splitlines(keepends=True)
        marked = b"".join(
            line if number == 0 and not self._begin else MARK.encode() + line for number, line in enumerate(lines)
        )
        while marked:
            marked = marked[os.write(self._descriptor, marked) :]
        self._begin = text.endswith(b"\n") or (self._begin and not text)
        return len(text)


def take_matrix(name: str) -> Path | None:
    """Write the matrix that came with the job, and take it out of the environment; None where none did."""
    config = json.loads(os.environ.get(CONFIG, "{}"))
    packed = config.get("metadata", {}).pop(MATRIX, None)
    if packed is None:
        return None
    os.environ[CONFIG] = json.dumps(config)
    path = _folder() / Path(name).name
    path.write_bytes(zlib.decompress(base64.b64decode(packed)))
    return path


def _folder() -> Path:
    """A private folder named after this process; those of dead ones are removed, for a killed driver leaves its own."""
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).split("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))


def run() -> None:
    """What the words of the command line say."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as in `entry`
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(Marking(1)), encoding="utf-8", line_buffering=True)
    verb, *words = sys.argv[1:]
    if verb == "submit" and words and (matrix := take_matrix(words[0])) is not None:
        words[0] = str(matrix)
    sys.argv = ["fleetbench", verb, *words]
    main()


if __name__ == "__main__":
    run()
