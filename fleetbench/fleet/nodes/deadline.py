"""Ends this process by a sentence though no Python can run: Ray keeps the interpreter's lock while it connects."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

UNUSABLE = 4
"""The exit code of an environment that cannot be used."""
_WORD = ctypes.create_string_buffer(b"error")
_AFTER_S = 0.1
"""From the sentence to the end."""
_SIGEV_THREAD = 2
_CLOCK_MONOTONIC = 1


class _Event(ctypes.Structure):
    """`struct sigevent` of 64-bit Linux: call `function` with `value`, in a thread of the C library's own."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("rest", ctypes.c_char * 32),
    )


class _Times(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns"))


@contextmanager
def deadline(seconds: float, sentence: str) -> Iterator[None]:
    """End the process if what is inside takes longer; on a system without such timers it takes as long as it takes."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "timer_create") or ctypes.sizeof(ctypes.c_void_p) != ctypes.sizeof(ctypes.c_int64):
        yield
        return
    text = ctypes.create_string_buffer(sentence.replace("%", "%%").encode())  # it is a format
    name = ctypes.c_void_p.in_dll(libc, "program_invocation_short_name")  # what `warnx` begins its line with
    before, name.value = name.value, ctypes.addressof(_WORD)
    timers = [
        _timer(libc, seconds, libc.warnx, ctypes.addressof(text)),
        _timer(libc, seconds + _AFTER_S, libc["_exit"], UNUSABLE),
    ]
    try:
        yield
    finally:
        for timer in timers:
            libc.timer_delete(timer)
        name.value = before


def _timer(libc: ctypes.CDLL, seconds: float, function: Any, value: int) -> ctypes.c_void_p:
    event = _Event(value=value, notify=_SIGEV_THREAD, function=ctypes.cast(function, ctypes.c_void_p))
    timer = ctypes.c_void_p()
    if libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) != 0:
        raise OSError("the system gives no timer")
    whole = int(seconds)
    times = _Times(value_s=whole, value_ns=int((seconds - whole) * 1e9))
    libc.timer_settime(timer, 0, ctypes.byref(times), None)
    return timer
