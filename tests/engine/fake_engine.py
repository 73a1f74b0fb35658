"""An engine of known behaviour, run as a program: `fake_engine.py --port N --kind KIND [--name NAME] [anything]`.

It leaves its arguments and environment, as JSON, in the file that `FAKE_RECORD` names.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

LATE = 3
"""Answers of 503 before a `late` engine is healthy."""
LOAD_S = 0.3


class Answer(http.server.BaseHTTPRequestHandler):
    kind = ""
    asked: list[str] = []  # noqa: RUF012  one server in the whole process

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/health":
            early = self.kind == "late" and self.asked.count("/health") <= LATE
            self.say(503 if early or self.kind == "unhealthy" else 200, {})
        elif self.path == "/info":
            self.say(200, {"kind": self.kind, "asked": len(self.asked)})
        elif self.path == "/metrics":
            self.say(200, "fake:tokens_total 1\n")
        else:
            self.say(404, {})

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if self.path == "/reset":
            self.say(200 if self.kind != "stubborn" else 500, {})
        elif self.kind == "mute":
            signal.pause()
        elif self.kind == "dies":
            os._exit(4)
        elif self.kind == "picky" and (self.path != "/v1/chat/completions" or set(body) > {"model", "messages"}):
            chat = self.path == "/v1/chat/completions" and isinstance(body["messages"], list)
            self.say(200, {"usage": {"completion_tokens": 1}}) if chat else self.say(422, {"detail": "unexpected"})
        elif self.kind.startswith("says:"):
            self.say(200, self.kind.removeprefix("says:"))
        elif self.kind.startswith("status:"):
            self.say(int(self.kind.removeprefix("status:")), {})
        else:
            self.say(200, {"usage": {"completion_tokens": 1}})

    def say(self, status: int, content: Any) -> None:
        text = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def main() -> None:
    argv = sys.argv[1:]
    kind, port = argv[argv.index("--kind") + 1], int(argv[argv.index("--port") + 1])
    record = os.environ.get("FAKE_RECORD")
    if record:
        Path(record).write_text(json.dumps({"argv": argv, "env": dict(os.environ)}))
    if kind == "silent":
        signal.pause()
    if kind == "noisy":
        sys.stdout.buffer.write(bytes(range(256)) * 40_000 + b"\nport 1\nport 1\nRuntimeError: CUDA out of memory\n")
        sys.stdout.flush()
        os._exit(1)
    if kind.startswith("exit:"):
        print(kind.removeprefix("exit:"), file=sys.stderr, flush=True)  # noqa: T201  its log
        os._exit(1)
    if kind == "daemon" and os.fork():
        os._exit(0)
    if kind == "slow":
        time.sleep(LOAD_S)
    Answer.kind = kind
    http.server.ThreadingHTTPServer.allow_reuse_address = kind != "slow"
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()


if __name__ == "__main__":
    main()
