"""What a run said last, kept in its cluster's own store: its desk goes with its controller, and others ask later."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ray._private import worker
from ray.exceptions import RayError

from fleetbench.fleet.control.status import RunStatus
from fleetbench.fleet.control.telling import BrokenStatusError, decode, encode

PREFIX = b"last:"
SPACE = b"fleetbench"
KEPT = 100
"""Runs whose last word a cluster keeps, the latest ones."""
ANSWER_S = 5.0
FINAL = ("ended", "interrupted")


def keep(status: RunStatus) -> None:
    """Keep a last word, as far as the cluster takes it; one that is none leaves nothing."""
    if status.state not in FINAL:
        return
    with suppress(RayError):
        _store().internal_kv_put(_key(status.run_id), encode(status).encode(), True, SPACE, timeout=ANSWER_S)
        for old in last_words()[KEPT:]:
            forget(old.run_id)


def forget(run_id: str) -> None:
    """Drop the last word of an earlier controller: another one begins."""
    with suppress(RayError):
        _store().internal_kv_del(_key(run_id), False, SPACE, timeout=ANSWER_S)


def last_word(run_id: str) -> RunStatus | None:
    """What the run said last on this cluster; None where it has not ended there, or nobody knows any more."""
    with suppress(RayError, BrokenStatusError):
        if said := _store().internal_kv_get(_key(run_id), SPACE, timeout=ANSWER_S):
            return decode(said)
    return None


def last_words() -> list[RunStatus]:
    """Those of all runs, the latest first."""
    found = []
    for said in entries(PREFIX, SPACE).values():
        with suppress(BrokenStatusError):
            found.append(decode(said))
    return sorted(found, key=lambda status: -status.updated_s)


def entries(prefix: bytes, space: bytes) -> Mapping[bytes, bytes]:
    """What the cluster's store has under keys that begin so; nothing where it does not answer."""
    found: Mapping[bytes, bytes] = {}
    with suppress(RayError):
        if keys := _store().internal_kv_keys(prefix, space, timeout=ANSWER_S):
            found = _store().internal_kv_multi_get(keys, space, timeout=ANSWER_S)
    return found


def _key(run_id: str) -> bytes:
    return PREFIX + run_id.encode()


def _store() -> Any:
    """The client of this driver's connection; `ray.experimental.internal_kv` would wait for ever."""
    driver: Any = worker.global_worker
    return driver.gcs_client
