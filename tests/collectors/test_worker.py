from __future__ import annotations

import io
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import feather

from fleetbench.engine import lease
from fleetbench.engine.protocol import Session
from fleetbench_collectors import serving
from fleetbench_collectors.failure import WorkerFailure
from fleetbench_collectors.worker import Worker, WorkerDied, WorkerTimeout


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    env = {**os.environ, "FLEETBENCH_LEASE": lease.new_lease("worker")}
    with Worker.start(log=tmp_path / "worker.log", env=env) as started:
        yield started


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of an engine that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def load(base_url: str, out: Path, **more: Any) -> dict[str, Any]:
    values = {
        "kind": "load",
        "run_id": "r",
        "trial_id": "t",
        "attempt": 0,
        "base_url": base_url,
        "model": "tiny",
        "batch": 1,
        "rate_per_s": None,
        "arrivals": None,
        "context_tok": 16,
        "output_tok": 4,
        "requests": 2,
        "warmup": 0,
        "warmup_context_tok": 16,
        "warmup_output_tok": 4,
        "seed": 0,
        "nonce": "n",
        "token_ids": {"first": 3, "count": 95},
        "request_timeout_s": 60,
        "out": str(out),
    }
    return values | more


@pytest.mark.engine
def test_one_worker_serves_many_trials(worker: Worker, tiny_session: Session, tmp_path: Path) -> None:
    for trial in ("first", "second"):
        out = tmp_path / trial
        answer = worker.run(load(tiny_session.receipt.base_url, out, trial_id=trial, nonce=trial), 60)
        assert (answer.ok, answer.error) == (True, None)
        assert answer.summary["completed_requests"] == 2
        assert answer.window is not None
        rows = feather.read_table(answer.tables["requests"]).to_pylist()
        assert {row["trial_id"] for row in rows} == {trial}
        assert [path.name for path in out.iterdir()] == ["requests.arrow"]


def test_a_broken_specification_is_an_answer_and_the_worker_goes_on(worker: Worker, tmp_path: Path) -> None:
    for spec, words in (
        ({}, "kind must be one of"),
        ({"kind": "dance"}, "kind must be one of"),
        ({"kind": ["load"]}, "kind must be one of"),
        ({"kind": "load"}, "out must be"),
        (load("ftp://x", tmp_path), "base_url: the URL must be"),
    ):
        answer = worker.run(spec, 60)
        assert (answer.ok, answer.kind) == (False, "bad_spec")
        assert words in (answer.error or "")
    assert worker.alive()


def test_a_folder_that_cannot_be_written_is_an_answer(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    answer = worker.run(load(url, tmp_path / "file" / "out"), 60)
    assert (answer.ok, answer.kind) == (False, "disk")
    assert "cannot be written" in (answer.error or "")


def test_a_worker_that_does_not_answer_is_killed(worker: Worker, silent: str, tmp_path: Path) -> None:
    with pytest.raises(WorkerTimeout, match=r"within 0\.5 s"):
        worker.run(load(silent, tmp_path), 0.5)
    assert not worker.alive()


def test_a_worker_killed_in_the_middle_of_a_trial_is_told(worker: Worker, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def kill() -> None:
            listener.accept()[0].close()
            worker.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(WorkerDied, match="by signal 9"):
            worker.run(load(url, tmp_path), 60)
        killer.join()
    with pytest.raises(WorkerDied):
        worker.run(load(url, tmp_path), 60)


OWNER = """
import sys
from pathlib import Path
from fleetbench_collectors.worker import Worker
worker = Worker.start(log=Path(sys.argv[2]))
print(worker.pid, flush=True)
spec = {spec}
worker.run(spec, 60)
"""


def test_a_worker_in_the_middle_of_a_trial_dies_with_its_owner(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        spec = load(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path)
        program = OWNER.format(spec=repr(spec))
        argv = [sys.executable, "-c", program, "-", str(tmp_path / "log")]
        owner = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        gone = os.pidfd_open(pid)
        with listener.accept()[0] as busy, owner.stdout:
            busy.recv(1)
            owner.send_signal(signal.SIGKILL)
            owner.wait()
            signalled = _readable(gone, 30)
        os.close(gone)
    assert signalled


def _readable(pidfd: int, timeout_s: float) -> bool:
    """Whether the process of the descriptor ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1e3))


def test_the_end_of_stdin_ends_it_with_0_and_every_line_has_an_answer() -> None:
    argv = [sys.executable, "-m", "fleetbench_collectors.worker"]
    lines = ["", "no json", "[1]", '{"kind": "load", "out": 3}', "[" * 100_000]
    done = subprocess.run(argv, input="\n".join(lines), capture_output=True, text=True, timeout=60, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(answer["ok"], answer["kind"]) for answer in answers] == [(False, "bad_spec")] * 4
    assert (done.returncode, done.stderr) == (0, "")


def test_the_callers_environment_is_the_workers(worker: Worker) -> None:
    with open(f"/proc/{worker.pid}/environ", "rb") as file:  # noqa: PTH123 - a file of the kernel
        assert f"FLEETBENCH_LEASE={lease.new_lease('worker')}".encode() in file.read().split(b"\0")


def test_a_failure_of_a_handler_is_an_answer_of_its_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = pa.table({"a": [1]})

    class Handler:
        @staticmethod
        def run(spec: dict[str, Any]) -> dict[str, Any]:
            if spec["fail"]:
                raise WorkerFailure("engine_gone", "the engine hung up")
            return {"tables": {"mine": table}, "summary": {"n": 1}}

    monkeypatch.setattr("importlib.import_module", lambda _: Handler)
    lines = [json.dumps({"kind": "quality", "out": str(tmp_path), "fail": fail}) for fail in (True, False)]
    answers = io.StringIO()
    serving.serve(io.StringIO("\n".join(lines)), answers)
    failed, done = (json.loads(line) for line in answers.getvalue().splitlines())
    assert failed == {"ok": False, "kind": "engine_gone", "error": "the engine hung up"}
    assert done["tables"] == {"mine": str(tmp_path / "mine.arrow")}
    assert (done["summary"], done["window"]) == ({"n": 1}, None)
    assert feather.read_table(done["tables"]["mine"]).equals(table)


@pytest.mark.parametrize("error", [WorkerDied(-9, "last words"), WorkerDied(None, ""), WorkerTimeout(3.0)])
def test_what_went_wrong_crosses_a_process_boundary(error: Exception) -> None:
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own bytes
