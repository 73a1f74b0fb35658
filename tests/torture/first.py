"""The first process of a pretended machine: names it, mounts its folders, reaps; all ends with the harness."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys


def main() -> None:
    order = json.loads(sys.argv[1])
    socket.sethostname(order["name"])
    libc = ctypes.CDLL(None, use_errno=True)
    for folder, size in order["mounts"].items():
        if libc.mount(b"none", folder.encode(), b"tmpfs", 0, f"size={size}".encode()):
            raise OSError(ctypes.get_errno(), folder)
    os.write(1, b"up\n")
    signal.signal(signal.SIGCHLD, lambda *_: None)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if 0 in ready and not os.read(0, 1):
            return
        if wake in ready:
            os.read(wake, 4096)
        _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    main()
