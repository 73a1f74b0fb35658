"""A process that ends as soon as the one that owns it is gone."""

from __future__ import annotations

import os
import select
import threading
import time

_LOOK_S = 0.2


def end_with(owner: int) -> None:
    """Ends this process, in the middle of whatever it does, once the process `owner`, its parent, is gone.

    Not by PR_SET_PDEATHSIG: that fires when the thread that started this process ends.
    """
    threading.Thread(target=_watch, args=(owner,), daemon=True).start()


def _watch(owner: int) -> None:
    try:
        gone = os.pidfd_open(owner)
    except OSError:
        while os.getppid() == owner:
            time.sleep(_LOOK_S)
    else:
        if os.getppid() == owner:
            poll = select.poll()
            poll.register(gone, select.POLLIN)
            poll.poll()
    os._exit(1)
