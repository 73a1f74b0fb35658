"""Notices at once that the process of a cluster's head is gone.

Ray itself ends a driver whose head was killed or started anew: by a stack trace, whatever the driver is doing.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fleetbench.fleet.nodes.head import split_address

KNOCK_S = 5.0
"""How long a connection is held before the next one, and how long an answer may take."""
THREAD = "head-watch"
PAUSE_S = 0.5
"""Between two connections, whatever ended the first."""
GRACE_S = 5.0
"""For a driver to end by itself once the head is gone: a new head that comes up is its end."""


@contextmanager
def watched_head(
    address: str, tell: Callable[[str], None], give_up: Callable[[str], None], *, grace_s: float = GRACE_S
) -> Iterator[None]:
    """Watch the head at HOST:PORT by a thread of its own.

    A head that is silent is no concern here: it may come back, as one that is gone does not.

    Args:
        address: of the head.
        tell: hears a sentence once it is gone.
        give_up: hears it again where the driver has not ended meanwhile, and ends the process.
        grace_s: how long that is.
    """
    ended = threading.Event()
    gone = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if _refused(address) and not ended.is_set():
                sentence = f"the cluster's head at {address} is gone"
                gone.set()
                tell(sentence)
                time.sleep(grace_s)
                give_up(sentence)
                return

    threading.Thread(target=watch, name=THREAD, daemon=True).start()
    try:
        yield
    finally:
        if not gone.is_set():
            ended.set()


def _refused(address: str) -> bool:
    """Hold a connection for a while, which breaks with the head's process; True where it takes none.

    What the head says is read and left: it greets whoever connects, and a connection with a greeting would be looked
    at again at once, without end.
    """
    until = time.monotonic() + KNOCK_S
    try:
        with socket.create_connection(split_address(address), timeout=KNOCK_S) as held:
            while (left_s := until - time.monotonic()) > 0:
                held.settimeout(left_s)
                if not held.recv(4096):
                    break
    except ConnectionRefusedError:
        return True
    except OSError:  # its time is over, or it broke
        pass
    time.sleep(PAUSE_S)
    return False
