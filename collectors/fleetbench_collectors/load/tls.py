"""Connections over TLS: a slower path, whose stamps are the client's own. Loaded where the target asks for it."""

from __future__ import annotations

import ssl
from typing import Any

from fleetbench_collectors.load.connection import IN, OUT, Connection, Step
from fleetbench_collectors.load.target import Target


class TlsConnection(Connection):
    """A connection that is ready once the handshake is done.

    A read takes what is decrypted already: `sock.pending()` bytes wait in user space, where epoll sees nothing of them.
    """

    __slots__ = ("_context",)

    def __init__(self, target: Target, where: tuple[int, Any], context: ssl.SSLContext) -> None:
        super().__init__(target, where, kernel=False)
        self._context = context

    def advance(self) -> None:
        super().advance()
        if self.step is Step.HANDSHAKE:
            self._handshake()

    def send(self, data: memoryview) -> int:
        try:
            return super().send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error

    def receive(self, size: int) -> bytes:
        try:
            return super().receive(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
        except ssl.SSLZeroReturnError:
            return b""

    def acked(self) -> bool:
        return True

    def _open(self) -> None:
        self.sock = self._context.wrap_socket(
            self.sock, server_hostname=self._target.host, do_handshake_on_connect=False
        )
        self.step = Step.HANDSHAKE

    def _handshake(self) -> None:
        if not isinstance(self.sock, ssl.SSLSocket):
            return
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self.wants = IN
        except ssl.SSLWantWriteError:
            self.wants = OUT
        else:
            self.step, self.wants = Step.READY, IN


def context(target: Target) -> ssl.SSLContext:
    """How the server's certificate is judged.

    Raises:
        OSError: the file of authorities cannot be read, or is none.
    """
    made = ssl.create_default_context(cafile=target.ca)
    if not target.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made
