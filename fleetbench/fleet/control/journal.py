"""A run's folder of control in its warehouse: what its controller writes so that other shells can see it.

status.json: the RunStatus, replaced as a whole. log.txt: a line an event, appended to. cancel: a request to stop.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.control.status import RunStatus
from fleetbench.fleet.control.telling import BrokenStatusError, decode, encode, line_of
from fleetbench.store.layout import checked

STATUS, LOG, CANCEL = "status.json", "log.txt", "cancel"
_READ_BYTES = 1 << 20
_STATUS_BYTES = 16 << 20
"""Far more than a run has launches at once."""
_NOT_WAITING = os.O_CLOEXEC | os.O_NONBLOCK
"""Opening a FIFO would wait for its other end."""


def control(warehouse: Path, run_id: str) -> Path:
    """The run's folder of control."""
    return warehouse / "control" / checked(run_id)


@dataclass(frozen=True, slots=True)
class Journal:
    """The controller's side; what cannot be written is left out, for a full disk must not end a run."""

    folder: Path

    def clear(self) -> None:
        """Make the folder, and forget what an earlier controller of the run said, and was asked."""
        for name in (CANCEL, STATUS):
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                (self.folder / name).unlink(missing_ok=True)

    def tell(self, status: RunStatus) -> None:
        """Replace the status: a reader sees the old or the new one. Not synced: after a crash it is worth nothing."""
        draft = self.folder / f"{STATUS}.{os.getpid()}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft.write_text(encode(status) + "\n", encoding="utf-8")
            draft.replace(self.folder / STATUS)
        except OSError:
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def say(self, line: str) -> None:
        """Append a line, in one write: another process may append too."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NOT_WAITING, 0o644)
            try:
                os.write(handle, f"{line_of(line)}\n".encode(errors="replace"))
            finally:
                os.close(handle)

    def cancel_wanted(self) -> bool:
        try:
            return (self.folder / CANCEL).exists()
        except OSError:
            return False


def read_status(folder: Path) -> RunStatus | None:
    """The status in a folder of control; None where there is none.

    Raises:
        BrokenStatusError: what is there is no status.
    """
    path = folder / STATUS
    try:
        with _opened(path) as file:
            return _status(file.read(_STATUS_BYTES + 1))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BrokenStatusError(f"{path} cannot be read: {error.strerror}") from error
    except BrokenStatusError as error:
        raise BrokenStatusError(f"{path} cannot be used: {error}") from error


def _status(text: bytes) -> RunStatus:
    if len(text) > _STATUS_BYTES:
        raise BrokenStatusError(f"it is larger than {_STATUS_BYTES} bytes")
    return decode(text)


def read_lines(folder: Path, since_bytes: int = 0) -> tuple[list[str], int]:
    """Whole lines of the log from an offset on, at most a MiB of them, and where the next ones begin."""
    try:
        with _opened(folder / LOG) as log:
            log.seek(since_bytes)
            text = log.read(_READ_BYTES)
    except FileNotFoundError:
        return [], since_bytes
    except OSError as error:
        raise UnusableEnvironmentError(f"{folder / LOG} cannot be read: {error.strerror}") from error
    whole = text.rfind(b"\n") + 1 or (len(text) if len(text) == _READ_BYTES else 0)  # no log of ours has such a line
    return text[:whole].decode(errors="replace").removesuffix("\n").split("\n") if whole else [], since_bytes + whole


def _opened(path: Path) -> BinaryIO:
    """A regular file to read; OSError where it is none."""
    file = os.fdopen(os.open(path, os.O_RDONLY | _NOT_WAITING), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file")
    return file


def request_cancel(folder: Path) -> None:
    """Ask the run's controller to stop; asking again changes nothing.

    Raises:
        UnusableEnvironmentError: the request cannot be written.
    """
    who = {"host": socket.gethostname(), "pid": os.getpid()}
    try:
        handle = os.open(folder / CANCEL, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return
    except OSError as error:
        raise _refused(folder, error) from error
    with suppress(OSError), os.fdopen(handle, "w", encoding="utf-8") as file:  # that it is there says all
        file.write(json.dumps(who) + "\n")


def _refused(folder: Path, error: OSError) -> UnusableEnvironmentError:
    remedy = "ask who started the run" if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else "see the disk"
    return UnusableEnvironmentError(f"{folder / CANCEL} cannot be written: {error.strerror} ({remedy})")
