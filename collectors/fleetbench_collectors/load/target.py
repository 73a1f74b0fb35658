"""Where the requests go: host and port, TLS, a proxy in between."""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

PORTS = {"http": 80, "https": 443}
Address = tuple[int, Any]
"""Address family and socket address."""
_PASSWORD = re.compile("//[^/]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server's base URL, taken apart.

    host, port, tls: of the server; path: before `/v1/...`; proxy: host and port that connections are made to
    instead; proxy_auth: value of Proxy-Authorization; verify: whether the server's certificate must be good;
    ca: file of the authorities that may have signed it, None for the system's; address: of the peer where it is
    known already.
    """

    host: str
    port: int
    tls: bool
    path: str = ""
    proxy: tuple[str, int] | None = None
    proxy_auth: str | None = None
    verify: bool = True
    ca: str | None = None
    address: Address | None = None

    @classmethod
    def parse(cls, base_url: str, *, proxy: str | None = None, verify: bool = True, ca: str | None = None) -> Target:
        """A target of `http[s]://HOST[:PORT][/PATH]`, through `http://[USER:PASSWORD@]HOST:PORT` if given.

        Raises:
            ValueError: one of them is no such URL.
        """
        url, port = _split(base_url, "the URL", ("http", "https"))
        if url.username is not None:
            raise ValueError("the URL must be without a user and a password: give a header Authorization")
        through, auth = (None, None) if proxy is None else _proxy(proxy)
        return cls(
            host=url.hostname or "",
            port=port,
            tls=url.scheme == "https",
            path=url.path.rstrip("/"),
            proxy=through,
            proxy_auth=auth,
            verify=verify,
            ca=ca,
        )

    @property
    def peer(self) -> tuple[str, int]:
        """Whom connections are made to."""
        return self.proxy or (self.host, self.port)

    @property
    def authority(self) -> str:
        """HOST:PORT, as it stands in a Host field."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{shown}:{self.port}"

    @property
    def way(self) -> str:
        """direct, tls, proxy or proxy+tls: over TLS the client stamps arrivals itself."""
        return "+".join([*(["proxy"] if self.proxy else []), *(["tls"] if self.tls else [])]) or "direct"

    def resolve(self) -> Address:
        """Where connections to the peer are made.

        Raises:
            OSError: nobody knows it.
        """
        return self.address or self.addresses()[0]

    def addresses(self) -> list[Address]:
        """All of the peer's, the preferred one first.

        Raises:
            OSError: nobody knows it.
        """
        host, port = self.peer
        return [(family, where) for family, _, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _proxy(text: str) -> tuple[tuple[str, int], str | None]:
    url, port = _split(text, "the proxy", ("http",))
    if url.username is None:
        return (url.hostname or "", port), None
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return (url.hostname or "", port), "Basic " + base64.b64encode(pair.encode()).decode()


def _split(text: str, what: str, schemes: tuple[str, ...]) -> tuple[SplitResult, int]:
    form = " or ".join(f"{scheme}://HOST:PORT" for scheme in schemes)
    shown = _PASSWORD.sub("//...@", text)
    try:
        url = urlsplit(text)
        port = PORTS.get(url.scheme, 0) if url.port is None else url.port
        if url.netloc.startswith("[") and url.hostname:
            ipaddress.IPv6Address(url.hostname.partition("%")[0])
    except ValueError as error:
        raise ValueError(f"{what} must be {form}, not {shown!r}: {error}") from error
    odd = not text.isprintable() or not text.isascii() or " " in text
    if url.scheme not in schemes or not url.hostname or not port or odd or url.query or url.fragment:
        raise ValueError(f"{what} must be {form}, not {shown!r}")
    return url, port
