"""Starts the truth server and reads back what it logged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

from tests.truth.server import Knobs

HERE = Path(__file__).parent
PYTHON = (sys.executable, str(HERE / "server.py"))
_ROW = 8
"""Numbers that the log has of each request, before the columns of events."""
_STOP_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthRequest:
    """One completion that was asked for; times in ns on the monotonic clock.

    received_ns: the whole request was read; connection: its number, from 0; head_ns: just before the first byte of
    the answer, None where none was sent; send_ns, tok: [e] of each event that carries tokens, the stamp just before
    the send() of its first byte, and how many tokens; end_ns: just after the last byte, None where the answer was
    cut short; output_tok: tokens asked for, 0 where the status is not 200.
    """

    received_ns: int
    status: int
    prompt_tok: int
    output_tok: int
    connection: int
    head_ns: int | None
    end_ns: int | None
    send_ns: array[int]
    tok: array[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the server did from its start to its end; `log` in order of receipt."""

    requests: int
    events: int
    tokens: int
    connections: int
    log: tuple[TruthRequest, ...]


@dataclass(slots=True, kw_only=True)
class Server:
    """A truth server that runs."""

    address: tuple[str, int]
    process: subprocess.Popen[str]
    log: Path
    _truth: Truth | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def stop(self) -> Truth:
        """Ends the server, once; the truth again where it had ended.

        Raises:
            RuntimeError: it ended badly.
            subprocess.TimeoutExpired: it does not end; it is killed.
        """
        if self._truth is None:
            try:
                out, _ = self.process.communicate(timeout=_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
            if self.process.returncode:
                raise RuntimeError(f"the truth server ended with {self.process.returncode}")
            self._truth = Truth(**json.loads(out), log=tuple(_log(self.log)))
        return self._truth


def build(cache_dir: Path, *, compiler: str = "gcc") -> list[str]:
    """The command line that starts the server: the C one, built once for its source, or Python's where no gcc is.

    Raises:
        subprocess.CalledProcessError: gcc refuses the source; its reasons are on stderr.
    """
    if shutil.which(compiler) is None:
        return list(PYTHON)
    source, binary = HERE / "server.c", cache_dir / "truth"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        cache_dir.mkdir(parents=True, exist_ok=True)
        flags = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")
        with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
            # Built aside: another process of the same tests must not start half a binary.
            made = Path(folder) / "truth"
            subprocess.run([compiler, *flags, str(source), "-o", str(made)], check=True)
            made.replace(binary)
    return [str(binary)]


@contextmanager
def serve(command: Sequence[str] = PYTHON, *, log: bool = True, **knobs: str | int) -> Iterator[Server]:
    """A server on a free port of 127.0.0.1, ended with the context.

    Args:
        command: what `build` gave.
        log: False where nothing is to be kept, so that its memory stays flat; the truth then has no requests.
        knobs: of the command line, `_` for `-`.

    Raises:
        ValueError: there is no such knob.
        RuntimeError: it does not start.
    """
    unknown = set(knobs) - {knob.name for knob in fields(Knobs)} | {"stdin"} & set(knobs)
    if unknown:
        raise ValueError(f"the truth server has no knob {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="truth-") as folder:
        path = Path(folder) / "log"
        asked = [text for name, value in knobs.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        kept = ["--log", str(path)] if log else []
        # Its standard input closes with this process, however that ends, and the server with it.
        with subprocess.Popen(
            [*command, "--stdin", "1", *kept, *asked], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            port = process.stdout.readline() if process.stdout else ""
            if not port:
                raise RuntimeError(f"the truth server did not start: {' '.join(asked)}")
            server = Server(address=("127.0.0.1", int(port)), process=process, log=path)
            try:
                yield server
            finally:
                server.stop()


def _log(path: Path) -> Iterator[TruthRequest]:
    """The layout is that of `write_log` in server.c."""
    if not path.exists():
        return
    numbers = array("q")
    numbers.frombytes(path.read_bytes())
    if sys.byteorder == "big":
        numbers.byteswap()
    requests = numbers[0]
    stamps = 1 + _ROW * requests
    toks = stamps + (len(numbers) - stamps) // 2
    for at in range(1, stamps, _ROW):
        received_ns, status, prompt_tok, output_tok, connection, head_ns, end_ns, events = numbers[at : at + _ROW]
        yield TruthRequest(
            received_ns=received_ns,
            status=status,
            prompt_tok=prompt_tok,
            output_tok=output_tok,
            connection=connection,
            head_ns=head_ns or None,
            end_ns=end_ns or None,
            send_ns=numbers[stamps : stamps + events],
            tok=numbers[toks : toks + events],
        )
        stamps, toks = stamps + events, toks + events
