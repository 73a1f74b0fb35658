"""One keep-alive connection to llama-server's own endpoints."""

from __future__ import annotations

import http.client
import json
from typing import Any, Self
from urllib.parse import urlsplit

from fleetbench_collectors.failure import WorkerFailure

_EXCERPT = 300


class RequestRefusedError(Exception):
    """The engine answered, but not with 200."""


class Client:
    """Blocking; one thread's own."""

    def __init__(self, base_url: str, timeout_s: float) -> None:
        try:
            url = urlsplit(base_url)
            host, port = url.hostname, url.port
        except ValueError as error:
            raise WorkerFailure("bad_spec", f"base_url {base_url!r} is no address: {error}") from error
        if url.scheme != "http" or not host:
            raise WorkerFailure("bad_spec", f"base_url {base_url!r} is not of the form http://HOST:PORT")
        self._base_url, self._timeout_s = base_url, timeout_s
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str) -> Any:
        return self._exchange("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._exchange("POST", path, json.dumps(body).encode())

    def _exchange(self, method: str, path: str, body: bytes | None) -> Any:
        """The reply's JSON.

        Raises:
            RequestRefusedError: a status other than 200.
            WorkerFailure: the engine is gone, too slow, or speaks no JSON.
        """
        try:
            self._connection.request(method, path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            data = response.read()
        except TimeoutError as error:
            raise WorkerFailure(
                "timeout", f"the engine at {self._base_url} gave no answer to {path} within {self._timeout_s:g} s"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise WorkerFailure(
                "engine_gone", f"the engine at {self._base_url} went away during {path}: {error!r}"
            ) from error
        if response.status != http.client.OK:
            raise RequestRefusedError(f"{response.status}: {data[:_EXCERPT].decode(errors='replace')}")
        try:
            return json.loads(data)
        except ValueError as error:
            raise WorkerFailure(
                "protocol", f"{path} of {self._base_url} answered no JSON: {data[:_EXCERPT]!r}"
            ) from error
