"""A server that refuses keys that it does not know, and counts five prompt tokens of everything."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_EVENTS = (
    {"choices": [{"index": 0, "text": "a", "finish_reason": "length"}]},
    {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}},
)


@contextmanager
def strict(refused: Collection[str], *, status: int = 400) -> Iterator[tuple[str, list[set[str]]]]:
    """Its URL, and the keys of the requests that it got."""
    seen: list[set[str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            keys = set(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            seen.append(keys)
            if keys & set(refused):
                self.send_error(status, "extra inputs are not permitted")
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for event in (*map(json.dumps, _EVENTS), "[DONE]"):
                self.wfile.write(f"data: {event}\n\n".encode())

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()
