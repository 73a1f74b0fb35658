"""A head whose process dies is noticed at once; one that only ends a connection is not given up."""

from __future__ import annotations

import queue
import socket
import threading

import pytest

from fleetbench.fleet.nodes import head_watch


def test_a_head_that_dies_is_told_of_and_then_given_up_and_one_that_parts_is_not() -> None:
    said: queue.Queue[tuple[str, str]] = queue.Queue()
    head = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{head.getsockname()[1]}"
    tell, give_up = (lambda why, verb=verb: said.put((verb, why)) for verb in ("told", "given up"))
    with head_watch.watched_head(address, tell, give_up, grace_s=0.0):
        first, _ = head.accept()
        first.close()  # as Ray does with a connection on which nothing comes
        second, _ = head.accept()
        assert said.empty()
        head.close()
        second.close()
        sentence = f"the cluster's head at {address} is gone"
        assert said.get(timeout=30) == ("told", sentence)
        assert said.get(timeout=30) == ("given up", sentence)


def test_a_head_that_greets_whoever_connects_is_not_connected_to_again_and_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        with head_watch.watched_head(f"127.0.0.1:{head.getsockname()[1]}", print, print):
            held, _ = head.accept()
            held.sendall(b"a greeting")
            head.settimeout(1.0)
            with pytest.raises(TimeoutError):
                head.accept()
        held.close()


def test_a_driver_that_ended_hears_of_no_head_any_more() -> None:
    said: queue.Queue[str] = queue.Queue()
    with socket.create_server(("127.0.0.1", 0)) as head:
        with head_watch.watched_head(f"127.0.0.1:{head.getsockname()[1]}", said.put, said.put):
            held, _ = head.accept()
        thread = next(one for one in threading.enumerate() if one.name == head_watch.THREAD)
    held.close()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert said.empty()
