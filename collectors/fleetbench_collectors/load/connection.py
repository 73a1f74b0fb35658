"""One non-blocking connection to the target: opened step by step, through a proxy where it has to be."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from enum import Enum
from typing import Any

from fleetbench_collectors.load import stamps
from fleetbench_collectors.load.target import Target

IN, OUT = select.EPOLLIN, select.EPOLLOUT
_TUNNEL_MAX_BYTES = 65_536
_TCP_INFO_BYTES_ACKED = 120
"""Where tcpi_bytes_acked (u64) lies in the kernel's struct tcp_info (linux/tcp.h)."""


class Step(Enum):
    """How far an opening connection is."""

    CONNECT = "connect"
    TUNNEL = "tunnel"
    HANDSHAKE = "handshake"
    READY = "ready"


class Connection:
    """A socket that becomes ready by `advance` calls; what it waits for is `wants`.

    sent_bytes: what was written to it so far, beside the opening.
    """

    __slots__ = ("_answer", "_target", "_unsent", "fd", "kernel", "sent_bytes", "sock", "step", "wants")

    def __init__(self, target: Target, where: tuple[int, Any], *, kernel: bool) -> None:
        """Begins to connect to the socket address `where`; with kernel stamps, if asked for and to be had.

        Raises:
            OSError: not even that is possible.
        """
        family, address = where
        self.sock: socket.socket = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.kernel = kernel and stamps.switch_on(self.sock)
        self._target = target
        self._answer = b""
        self._unsent = b""
        self.fd = self.sock.fileno()
        self.sent_bytes = 0
        self.step = Step.CONNECT
        self.wants = OUT
        trouble = self.sock.connect_ex(address)
        # What becomes of one that is on its way, `advance` tells.
        if trouble not in (0, errno.EINPROGRESS):
            self.close()
            raise OSError(trouble, os.strerror(trouble))

    def advance(self) -> None:
        """Goes on with the opening as far as it goes without waiting.

        Raises:
            OSError: it failed.
        """
        if self.step is Step.CONNECT:
            self._connected()
        if self.step is Step.TUNNEL:
            self._tunnel()

    def trouble(self) -> str | None:
        """What the kernel says is wrong with it; it says so once."""
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return os.strerror(error) if error else None

    def send(self, data: memoryview) -> int:
        """Bytes that were taken.

        Raises:
            BlockingIOError: none, for now.
            OSError: the connection is broken.
        """
        sent = self.sock.send(data)
        self.sent_bytes += sent
        return sent

    def receive(self, size: int) -> bytes:
        """What there is, at most `size` bytes; nothing where the other side is done.

        Raises:
            BlockingIOError: nothing has come.
            OSError: the connection is broken.
        """
        return self.sock.recv(size)

    def check_idle(self) -> None:
        """Sees whether nothing has come that nobody asked for, though the socket says that it can be read.

        Raises:
            OSError: there are bytes, or their end.
        """
        try:
            data = self.receive(1)
        except BlockingIOError:
            return
        raise OSError("bytes that nobody asked for" if data else "the server closed the connection")

    def acked(self) -> bool:
        """Whether the other side's kernel has taken all that was written; True where this one does not say.

        To be asked after the other side's orderly end, which acknowledges what came before it; a reset does not.
        """
        try:
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        except OSError:
            return True
        if len(info) < _TCP_INFO_BYTES_ACKED + 8:
            return True
        (bytes_acked,) = struct.unpack_from("=Q", info, _TCP_INFO_BYTES_ACKED)
        return bool(bytes_acked >= self.sent_bytes)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()

    def _connected(self) -> None:
        trouble = self.trouble()
        if trouble is not None:
            raise OSError(trouble)
        try:
            self.sock.getpeername()
        except OSError:
            return
        if self._target.proxy and self._target.tls:
            self.step, self._unsent = Step.TUNNEL, _connect_request(self._target)
        else:
            self._open()

    def _tunnel(self) -> None:
        """Asks the proxy for a tunnel, and reads its answer byte by byte: what follows is the server's."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
            self.wants = IN
            while not self._answer.endswith(b"\r\n\r\n"):
                byte = self.sock.recv(1)
                if not byte:
                    raise OSError("the proxy closed the connection")
                self._answer += byte
                if len(self._answer) > _TUNNEL_MAX_BYTES:
                    raise OSError("the proxy's answer has no end")
        except BlockingIOError:
            return
        line = self._answer.partition(b"\r\n")[0]
        if line.split(b" ")[1:2] != [b"200"]:
            raise OSError(f"the proxy refused the tunnel: {line[:200].decode(errors='replace')}")
        self._open()

    def _open(self) -> None:
        self.step, self.wants = Step.READY, IN


def _connect_request(target: Target) -> bytes:
    auth = f"Proxy-Authorization: {target.proxy_auth}\r\n" if target.proxy_auth else ""
    return f"CONNECT {target.authority} HTTP/1.1\r\nHost: {target.authority}\r\n{auth}\r\n".encode()
