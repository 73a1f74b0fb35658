"""What a server says of itself beside its completions: which models it has, and its own metrics."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping

from fleetbench_collectors.engine import prometheus
from fleetbench_collectors.load.target import Target

_TIMEOUT_S = 5.0
_ANSWER_MAX_BYTES = 16 << 20
_OK = 200
_ENGINES = ("vllm", "sglang", "llamacpp")
"""Engines by the prefix of their metrics' names."""


class Server:
    """Asks a target with plain GETs; what it does not answer is None."""

    def __init__(self, target: Target, headers: Mapping[str, str], *, timeout_s: float) -> None:
        self._target = target
        self._headers = dict(headers)
        self._prefix = ""
        if target.proxy and not target.tls:  # there is no tunnel: the proxy is told whom to ask
            self._prefix = f"http://{target.authority}"
            self._headers |= _proxy_headers(target)
        self._timeout_s = min(timeout_s, _TIMEOUT_S)

    def model(self) -> str | None:
        """The first model that it serves."""
        found = self._get(f"{_root(self._target.path)}/v1/models")
        try:
            entries = json.loads(found or b"{}")["data"]
            name = entries[0]["id"]
            name.encode()  # what is no UTF-8 cannot be asked for
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        return str(name)

    def metrics(self) -> list[tuple[str, float]]:
        """Its metrics under canonical names; none where it has none."""
        found = self._get(f"{_root(self._target.path)}/metrics")
        return prometheus.values((found or b"").decode(errors="replace"))

    def engine(self) -> str | None:
        """Which engine it is, by the names of its metrics."""
        text = (self._get(f"{_root(self._target.path)}/metrics") or b"").decode(errors="replace")
        return next((name for name in _ENGINES if f"\n{name}:" in f"\n{text}"), None)

    def _get(self, path: str) -> bytes | None:
        connection = self._connection()
        try:
            connection.request("GET", self._prefix + path, headers=self._headers)
            answer = connection.getresponse()
            body = answer.read(_ANSWER_MAX_BYTES)
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return body if answer.status == _OK else None

    def _connection(self) -> http.client.HTTPConnection:
        target = self._target
        host, port = target.peer
        if not target.tls:
            return http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        context = ssl.create_default_context(cafile=target.ca)
        if not target.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=context)
        if target.proxy:
            connection.set_tunnel(target.host, target.port, headers=_proxy_headers(target))
        return connection


def _proxy_headers(target: Target) -> dict[str, str]:
    return {} if target.proxy_auth is None else {"Proxy-Authorization": target.proxy_auth}


def _root(path: str) -> str:
    """The path before `/v1`."""
    return path.partition("/v1")[0]
