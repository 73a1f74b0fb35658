"""A program in the place of `vllm serve` over several nodes: rank 0 serves once all other ranks have met it.

Rank 0 does not notice when another one dies; the others end with it. Who was started is in the file that
STAND_IN_RECORD names: rank, pid and whether it was told to have no API.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

STEP_S = 0.05
ITL_S = 0.005


class Api(http.server.BaseHTTPRequestHandler):
    """As much of vLLM's as is asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer({})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not asked.get("stream"):
            self.answer({"choices": [{"text": " tok"}], "usage": usage(asked)})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for event in events(asked):
            self.wfile.write(f"data: {event}\n\n".encode())

    def answer(self, content: Any) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def usage(asked: dict[str, Any]) -> dict[str, int]:
    return {"prompt_tokens": len(asked["prompt"]), "completion_tokens": asked["max_tokens"]}


def events(asked: dict[str, Any]) -> Iterator[str]:
    """One for each token, at a steady pace, and the usage."""
    for left in reversed(range(asked["max_tokens"])):
        time.sleep(ITL_S)
        yield json.dumps({"choices": [{"index": 0, "text": " tok", "finish_reason": None if left else "length"}]})
    yield json.dumps({"choices": [], "usage": usage(asked)})
    yield "[DONE]"


def main(argv: list[str]) -> None:
    if "--version" in argv:
        print("0.33.0")  # noqa: T201  its answer
        return
    given = dict(pairwise(argv))
    rank, meeting = int(given["--node-rank"]), (given["--master-addr"], int(given["--master-port"]))
    with Path(os.environ["STAND_IN_RECORD"]).open("a") as record:
        record.write(f"{rank} {os.getpid()} {'--headless' in argv}\n")
    if rank:
        follow(meeting)
        return
    met = meet(meeting, int(given["--nnodes"]) - 1)
    with http.server.ThreadingHTTPServer((given["--host"], int(given["--port"])), Api) as server:
        server.serve_forever()
    met.clear()


def meet(meeting: tuple[str, int], others: int) -> list[socket.socket]:
    with socket.create_server(meeting) as door:
        return [door.accept()[0] for _ in range(others)]


def follow(meeting: tuple[str, int]) -> None:
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(meeting) as connection:
            connection.recv(1)
            return
        time.sleep(STEP_S)


if __name__ == "__main__":
    main(sys.argv[1:])
