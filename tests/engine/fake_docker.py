"""A stand-in for docker: a daemon whose children no client has, and a client that only talks to it.

`fake_docker.py daemon SOCKET RECORD` is the daemon, which appends each client's argv to RECORD, one JSON list a line;
with `FAKE_DOCKER` set to its socket, `fake_docker.py run|rm|ps ...` is the client. It knows what fleetbench uses, and
refuses every other option.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

VALUED = {
    *("--name", "--label", "--network", "--ipc", "--mount", "--env", "--entrypoint", "--gpus", "--device"),
    *("--group-add", "--security-opt"),
}
BARE = {"--rm", "--init", "--pull=never"}
MISSING = "docker: Error response from daemon: No such image: "
CANNOT_RUN = 125
HIDDEN = "INSIDE_"


class Daemon:
    """Containers by name; a container is a child of the daemon, in a session of its own."""

    def __init__(self, record: Path) -> None:
        self.record = record
        self.running: dict[str, tuple[subprocess.Popen[bytes], list[str]]] = {}
        self.lock = threading.Lock()

    def answer(self, request: dict[str, Any], handles: list[int]) -> dict[str, Any]:
        argv = request["argv"]
        with self.lock, self.record.open("a") as file:
            print(json.dumps(argv), file=file)
        if argv[0] == "run":
            return self.run(argv[1:], request["env"], handles)
        if argv[0] == "signal":
            self.running[argv[1]][0].send_signal(int(argv[2]))
        if argv[0] == "rm":
            return self.remove(argv[-1])
        if argv[0] == "ps":
            return {"code": 0, "text": self.listing(argv[1:])}
        return {"code": 0}

    def run(self, argv: list[str], env: dict[str, str], handles: list[int]) -> dict[str, Any]:
        options, rest = parse(argv)
        image, *command = rest
        if "absent" in image:
            return {"code": CANNOT_RUN, "text": f"{MISSING}{image}\n"}
        named = (word.partition("=") for word in options["--env"])
        # A container's processes are in a PID namespace of their own, where no sweep of leases sees them.
        passed = {HIDDEN + name: value if given else env.get(name, "") for name, given, value in named}
        passed |= {name.removeprefix(HIDDEN): value for name, value in passed.items() if "LEASE" not in name}
        program = options["--entrypoint"][0]
        try:
            process = subprocess.Popen(
                [program, *command], env=passed, start_new_session=True, stdout=handles[0], stderr=handles[1]
            )
        except OSError as error:
            return {"code": 127, "text": f"docker: executable file not found in $PATH: {error}\n"}
        name = options["--name"][0] if options["--name"] else f"nameless-{process.pid}"
        with self.lock:
            self.running[name] = (process, options["--label"])
        code = process.wait()
        with self.lock:
            self.running.pop(name, None)
        return {"code": code if code >= 0 else 128 - code}

    def remove(self, name: str) -> dict[str, Any]:
        with self.lock:
            found = self.running.pop(name, None)
        if found is None:
            return {"code": 1, "text": f"Error: No such container: {name}\n"}
        os.killpg(found[0].pid, signal.SIGKILL)
        return {"code": 0}

    def listing(self, argv: list[str]) -> str:
        kind, _, wanted = argv[argv.index("--filter") + 1].partition("=")
        with self.lock:
            found = [
                (name, dict(label.split("=", 1) for label in labels))
                for name, (_, labels) in self.running.items()
                if (wanted in name if kind == "name" else wanted in labels)
            ]
        if "--quiet" in argv:
            return "".join(f"{name}\n" for name, _ in found)
        return "".join(f"{name}\t{labels.get('fleetbench.lease', '')}\n" for name, labels in found)


def parse(argv: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Options by name, and the rest; as docker does it, options end at the image."""
    options: dict[str, list[str]] = {name: [] for name in VALUED}
    words = list(argv)
    while words and words[0].startswith("-"):
        name = words.pop(0)
        if name in VALUED:
            options[name].append(words.pop(0))
        elif name not in BARE:
            raise SystemExit(f"unknown flag: {name}")
    return options, words


def serve(path: str, record: str) -> None:
    daemon = Daemon(Path(record))

    def one(client: socket.socket) -> None:
        with client:
            data, handles, _, _ = socket.recv_fds(client, 1_000_000, 2)
            answer = daemon.answer(json.loads(data), handles)
            for handle in handles:
                os.close(handle)
            try:
                client.sendall(json.dumps(answer).encode())
            except OSError:
                return

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        print("ready", flush=True)  # noqa: T201  to the test
        while True:
            threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()


def ask(argv: list[str]) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.environ["FAKE_DOCKER"])
        request = json.dumps({"argv": argv, "env": dict(os.environ)}).encode()
        socket.send_fds(client, [request], [1, 2])
        answer: dict[str, Any] = json.loads(client.recv(1_000_000))
        return answer


def main() -> int:
    argv = sys.argv[1:]
    if argv[0] == "daemon":
        serve(argv[1], argv[2])
    if argv[0] == "run":
        names = parse(argv[1:])[0]["--name"]
        signal.signal(signal.SIGTERM, lambda *_: ask(["signal", names[0], str(int(signal.SIGTERM))]) and None)
    answer = ask(argv)
    out = sys.stderr if answer["code"] else sys.stdout
    out.write(answer.get("text", ""))
    return int(answer["code"])


if __name__ == "__main__":
    sys.exit(main())
