"""Leaving a fleet where a machine has nodes of several."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleetbench.fleet.nodes.processes import MARK, NODE_FILE, mark
from tests.fleet.nodes.test_joining import new_machine


@contextmanager
def twin(folder: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is marked as one of node `twin`, in a cluster of its own."""
    folder.mkdir()
    (folder / NODE_FILE).write_text(json.dumps({"address": address}))
    with subprocess.Popen(["sleep", "600"], env={MARK: mark("twin", folder)}) as process:
        try:
            yield process
        finally:
            process.kill()


def test_of_two_nodes_of_a_name_none_is_ended_until_a_cluster_is_named(tmp_path: Path) -> None:
    with (
        new_machine() as machine,
        twin(tmp_path / "1", "127.0.0.1:7001") as first,
        twin(tmp_path / "2", "127.0.0.1:7002") as second,
    ):
        unclear = machine.run("node", "down", "twin")
        assert unclear.code == 2
        assert "several nodes here are called twin: twin (head at 127.0.0.1:7001); twin (head at" in unclear.err
        assert "--address 127.0.0.1:7001" in unclear.err
        assert (first.poll(), second.poll()) == (None, None)
        nowhere = machine.run("node", "down", "twin", "--address", "127.0.0.1:7003")
        assert (nowhere.code, "no node of the cluster at 127.0.0.1:7003 is here" in nowhere.err) == (2, True)
        chosen = machine.run("node", "down", "--address", "localhost:7002")
        assert (chosen.code, chosen.out) == (0, "twin is down (1 processes ended)\n"), chosen.err
        assert second.wait() == -signal.SIGTERM
        assert first.poll() is None
        assert machine.run("node", "down", "twin", "--all").code == 2
