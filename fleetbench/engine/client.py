"""HTTP to one engine: a request, and its whole answer."""

from __future__ import annotations

import http.client
import json
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fleetbench.engine.protocol import EngineUnreachableError

SHOWN_BYTES = 200
MAX_BYTES = 16_000_000


class Answer(NamedTuple):
    status: int
    content: bytes

    @property
    def value(self) -> Any:
        """What it says: JSON, else the text itself."""
        text = self.content.decode(errors="replace")
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text


def request(base_url: str, path: str, *, timeout_s: float, method: str = "GET", body: Any = None) -> Answer:
    """One request, by no proxy; raises EngineUnreachableError where there is no whole answer."""
    url = urlsplit(base_url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc.rpartition("@")[2], timeout=timeout_s)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    try:
        connection.request(method, url.path.rstrip("/") + path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read(MAX_BYTES)
        if response.length:
            raise EngineUnreachableError(f"{path}: the answer breaks off, or is larger than {MAX_BYTES} bytes")
    except (OSError, http.client.HTTPException) as error:
        raise EngineUnreachableError(f"{path}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    return Answer(response.status, content)


def ask(base_url: str, path: str, *, timeout_s: float, method: str = "GET", body: Any = None) -> bytes:
    """`request`, whose answer must be status 200; with a body it is a POST."""
    method = "POST" if body is not None else method
    status, content = request(base_url, path, timeout_s=timeout_s, method=method, body=body)
    if status != HTTPStatus.OK:
        raise EngineUnreachableError(f"{path}: status {status}: {content[:SHOWN_BYTES]!r}")
    return content
