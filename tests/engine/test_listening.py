from __future__ import annotations

import os
import socket
import subprocess
import sys

from fleetbench.engine import listening

LISTENS = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", 0))
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_a_listener_of_ours_or_of_our_children_is_none_of_anothers() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        port = int(child.stdout.readline())
        assert not listening.is_foreign(port, os.getpid())
        assert listening.is_foreign(port, child.pid + 10**6)
        child.stdin.close()


def test_a_listener_that_is_no_descendant_is_foreign_over_either_protocol() -> None:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((host, 0), family=family) as server:
            assert listening.is_foreign(server.getsockname()[1], os.getpid())


def test_a_port_that_nobody_listens_on_is_not_foreign() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not listening.is_foreign(port, os.getpid())
