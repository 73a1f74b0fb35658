"""A hub on this machine: the few endpoints that its library asks when it fetches a model, and the ways they refuse."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from tests.artifact.folders import COMMIT

GATED, MISSING, LOST = "meta-llama/Llama-3.1-8B-Instruct", "org/missing", "org/lost"
"""Repositories that the hub keeps for those who signed, does not have, and breaks off while it sends them."""
BROKEN = 0
"""A connection that is closed without an answer."""


@dataclass(slots=True)
class Hub:
    """url: where it listens; asked: paths of files that were sent, in order; token: of one who signed.

    failures: what the next questions for a commit come to: a status, or BROKEN.
    """

    url: str
    repos: dict[str, Mapping[str, bytes]]
    asked: list[str] = field(default_factory=list)
    token: str | None = None
    failures: list[int] = field(default_factory=list)


@contextmanager
def serving(repos: Mapping[str, Mapping[str, bytes]]) -> Iterator[Hub]:
    """The hub while it runs; files by repository and name, all of the commit COMMIT, which is `main` and `v2`."""
    hub = Hub(url="", repos=dict(repos))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub)) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *given: Any) -> None:
        self.hub = hub
        super().__init__(*given)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        words = unquote(self.path.split("?")[0]).strip("/").split("/")
        match words:
            case ["api", "models", org, name, "revision", revision]:
                self._info(f"{org}/{name}", revision)
            case ["api", "models", org, name, "tree", revision]:
                self._tree(f"{org}/{name}", revision)
            case [org, name, "resolve", revision, file]:
                self._file(f"{org}/{name}", revision, file, body=body)
            case _:
                self._send(404, b"")

    def _info(self, repo: str, revision: str) -> None:
        if self._failed() or self._refused(repo, revision):
            return
        files = [{"rfilename": name, "size": len(data)} for name, data in self.hub.repos[repo].items()]
        said = {"_id": "1", "id": repo, "modelId": repo, "sha": COMMIT, "siblings": files, "private": False}
        self._send(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def _tree(self, repo: str, revision: str) -> None:
        if self._refused(repo, revision):
            return
        said = [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha256(data).hexdigest()[:40]}
            for name, data in self.hub.repos[repo].items()
        ]
        self._send(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def _file(self, repo: str, revision: str, name: str, *, body: bool) -> None:
        if self._refused(repo, revision):
            return
        data = self.hub.repos[repo].get(name)
        if data is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        large = name.endswith(".safetensors")
        found = hashlib.sha256(data) if large else hashlib.sha1(data, usedforsecurity=False)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{found.hexdigest()}"', "Accept-Ranges": "bytes"}
        if body:
            self.hub.asked.append(f"{repo}/{name}")
        if body and repo == LOST and large:
            self._send(200, data[:100], headers, length=len(data))
            self.close_connection = True
        else:
            self._send(200, data if body else b"", headers, length=len(data))

    def _failed(self) -> bool:
        if not self.hub.failures:
            return False
        code = self.hub.failures.pop(0)
        if code == BROKEN:
            self.close_connection = True
        else:
            self._send(code, b"{}")
        return True

    def _refused(self, repo: str, revision: str) -> bool:
        signed = self.hub.token is not None and self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if repo == GATED and not signed:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
        elif repo not in self.hub.repos:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif revision not in {"main", "v2", COMMIT}:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        else:
            return False
        return True

    def _send(
        self, code: int, data: bytes, headers: Mapping[str, str] | None = None, *, length: int | None = None
    ) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        pass
