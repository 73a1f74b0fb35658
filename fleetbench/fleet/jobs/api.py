"""The dashboard's Jobs API, as far as it is needed.

Ray's own client waits for ever where nobody answers, and needs packages that only a head has. This one takes no
redirect, so the token goes nowhere but to the address that was named.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fleetbench.errors import FleetbenchError, InputError, UnusableEnvironmentError
from fleetbench.fleet.nodes import cluster_token
from fleetbench.fleet.nodes.connection import DASHBOARD_PORT

CA = "RAY_TLS_CA_CERT"
CONNECT_S = 3.0
ANSWER_S = 8.0
WHOLE_S = 9.0
"""For a first answer, whatever hangs: a resolver, a handshake, a dashboard."""
SLOWEST_BYTES_PER_S = 10_000
ANSWER_BYTES = 256 << 20
"""An answer that comes slower, after ANSWER_S, or is larger, is none: jobs' logs are the largest."""
HTTPS_PORT = 443
SUBMISSION = "SUBMISSION"
_TUNNEL = "the dashboard is on loopback by default: ssh -L {port}:127.0.0.1:{port} HEAD brings it here"


class RefusedError(FleetbenchError):
    """The Jobs API said no."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(status, said)
        self.status, self.said = status, said

    def __str__(self) -> str:
        lines = [line for line in self.said.strip().splitlines() if line.strip(" .")]
        return f"the cluster's dashboard answered {self.status}: {lines[-1][:300] if lines else 'without a word'}"


class LostError(UnusableEnvironmentError):
    """The dashboard cannot be reached, now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsApi:
    """A dashboard that answered; what it says is JSON."""

    url: str
    _host: str
    _port: int
    _base: str
    _headers: Mapping[str, str] = field(repr=False)
    _tls: ssl.SSLContext | None = field(repr=False)

    @property
    def clear_text(self) -> bool:
        """Whether the token goes unencrypted to another machine."""
        return self._tls is None and not _loopback(self._host)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One request.

        Raises:
            LostError: nobody answers.
            RefusedError: an answer that is no success.
            UnusableEnvironmentError: the token is none, or what answers is no dashboard.
        """
        status, text = self._request(method, path, body)
        if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            raise UnusableEnvironmentError(self._denied(status))
        if http.client.MULTIPLE_CHOICES <= status < http.client.BAD_REQUEST:
            raise UnusableEnvironmentError(f"{self.url} points elsewhere ({status}): give the dashboard's own address")
        if status != http.client.OK:
            raise RefusedError(status, text)
        try:
            return json.loads(text)
        except ValueError as error:
            raise self.no_dashboard() from error

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, str]:
        connection = (
            http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_S)
            if self._tls is None
            else http.client.HTTPSConnection(self._host, self._port, timeout=CONNECT_S, context=self._tls)
        )
        headers = {**self._headers, "Content-Type": "application/json", "Connection": "close"}
        try:
            connection.connect()
            connection.sock.settimeout(ANSWER_S)
            connection.request(method, self._base + path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, _whole(answer).decode(errors="replace")
        except ssl.SSLCertVerificationError as error:
            why = f"{error.verify_message} (name its authority's file in {CA}, or have the system trust it)"
            raise UnusableEnvironmentError(f"the certificate of {self.url} is not trusted: {why}") from error
        except ssl.SSLError as error:
            raise UnusableEnvironmentError(
                f"{self.url} does not speak TLS: {error.reason or error} (write http://, or see the port)"
            ) from error
        except (socket.gaierror, UnicodeError) as error:  # or too long a name for a host
            raise LostError(f"there is no host {self._host} (see --address, or give its IP)") from error
        except ConnectionRefusedError as error:
            raise LostError(
                f"nothing listens at {self.url}: see whether the head is up, and has its dashboard (there: pip install "
                f"'fleetbench[cluster]'); {_TUNNEL.format(port=self._port)}"
            ) from error
        except TimeoutError as error:
            raise LostError(
                f"{self.url} does not answer: see whether the head is up, and whether a firewall keeps port "
                f"{self._port}; {_TUNNEL.format(port=self._port)}"
            ) from error
        except http.client.HTTPException as error:
            raise self.no_dashboard() from error
        except OSError as error:
            raise LostError(f"{self.url} cannot be reached: {error.strerror or error} (see --address)") from error
        finally:
            connection.close()

    def _denied(self, status: int) -> str:
        if status == http.client.UNAUTHORIZED:
            return f"{self.url} wants a token that it did not get: see whether a proxy before it takes headers away"
        return f"the cluster at {self.url} has another token: copy the head's token file here, or name it by --token"

    def no_dashboard(self) -> UnusableEnvironmentError:
        tls = "" if self._tls else ", or write https:// where it is encrypted"
        return UnusableEnvironmentError(
            f"what answers at {self.url} is no Ray dashboard: see the port (it is {DASHBOARD_PORT} by default){tls}"
        )


def reach_jobs(address: str, token: Path | None, environ: Mapping[str, str] = os.environ) -> JobsApi:
    """The Jobs API at `http(s)://HEAD[:PORT]`, asked for its version; ten seconds at most.

    Raises:
        InputError: the address is none.
        UnusableEnvironmentError: no token, no answer, no dashboard, or another token.
    """
    parts = _split(address)
    file = cluster_token.find(token, environ)
    secret = cluster_token.read(file) if file is not None else cluster_token.read_value(environ)
    https = parts.scheme == "https"
    port = parts.port or (HTTPS_PORT if https else DASHBOARD_PORT)
    host = parts.hostname or ""
    api = JobsApi(
        url=f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}{parts.path.rstrip('/')}",
        _host=host,
        _port=port,
        _base=parts.path.rstrip("/"),
        _headers={"Authorization": f"Bearer {secret}"},
        _tls=_context(environ) if https else None,
    )
    _check(api)
    return api


def job_path(submission_id: str, what: str = "") -> str:
    return f"/api/jobs/{quote(submission_id, safe='')}{what}"


def _split(address: str) -> Any:
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        good = good and parts.username is None and parts.port != 0 and parts.path.isascii()
    except ValueError:
        good = False
    if not good:
        raise InputError((f"address {address!r} is none of a dashboard (write http://HEAD:{DASHBOARD_PORT})",))
    return parts


def _context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Trust the authority of the cluster's own TLS where it is named, else those of this system."""
    named = environ.get(CA)
    try:
        return ssl.create_default_context(cafile=named or None)
    except (OSError, ssl.SSLError) as error:
        raise UnusableEnvironmentError(f"{CA} names {named}, which holds no certificate that can be used") from error


def _check(api: JobsApi) -> None:
    """Ask who it is, from a thread: a resolver that hangs is not waited for."""
    said: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            said.put(api.call("GET", "/api/version"))
        except FleetbenchError as error:
            said.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        found = said.get(timeout=WHOLE_S)
    except queue.Empty:
        raise LostError(f"{api.url} does not answer within {WHOLE_S:g} s (see --address)") from None
    if isinstance(found, Exception) and not isinstance(found, RefusedError):
        raise found
    if not isinstance(found, dict) or "ray_version" not in found:
        raise api.no_dashboard()


def _whole(answer: http.client.HTTPResponse) -> bytes:
    """All of an answer; a time limit of each read alone would let a server that drips hold its caller for ever."""
    began, parts, size = time.monotonic(), [], 0
    while part := answer.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > ANSWER_BYTES:
            raise http.client.HTTPException
        if time.monotonic() - began > ANSWER_S + size / SLOWEST_BYTES_PER_S:
            raise TimeoutError
    return b"".join(parts)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
