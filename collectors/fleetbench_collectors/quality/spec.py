"""The specification of a quality trial, as it comes through the worker's pipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from fleetbench_collectors.failure import WorkerFailure
from fleetbench_collectors.quality import suite
from fleetbench_collectors.quality.general import item
from fleetbench_collectors.quality.general import suite as general

_MAX_PARALLEL = 256
_MAX_ITEMS = {suite.NAME: suite.MAX_ITEMS, item.NAME: general.MAX_ITEMS}


@dataclass(frozen=True, slots=True, kw_only=True)
class QualitySpec:
    """`items` a category; `parallel` requests in flight at most; `positions` 0 asks for no distributions."""

    base_url: str
    suite: str
    items: int
    seed: int
    run_id: str
    trial_id: str
    attempt: int
    out: Path
    parallel: int = 4
    positions: int = 400
    request_timeout_s: float = 30.0

    @classmethod
    def from_json(cls, spec: Mapping[str, Any]) -> QualitySpec:
        """Checked; `kind` belongs to the worker and is passed over.

        Raises:
            WorkerFailure: every mistake in one sentence each.
        """
        given = {key: value for key, value in spec.items() if key != "kind"}
        known = {field.name: field for field in fields(cls)}
        mistakes = [f"unknown key {key!r}" for key in given if key not in known]
        mistakes += [
            f"{name} is missing" for name, field in known.items() if field.default is MISSING and name not in given
        ]
        mistakes += [
            f"{name} is {value!r}, but must be {_WANTED[str(known[name].type)]}"
            for name, value in given.items()
            if name in known and not _fits(str(known[name].type), value)
        ]
        if not mistakes:
            mistakes = _out_of_range({name: field.default for name, field in known.items()} | given)
        if mistakes:
            raise WorkerFailure("bad_spec", "the quality specification is wrong: " + "; ".join(mistakes))
        return cls(**(given | {"out": Path(given["out"])}))


_WANTED = {"str": "a text", "Path": "a path", "int": "a whole number", "float": "a number"}


def _fits(kind: str, value: Any) -> bool:
    if kind in {"str", "Path"}:
        return isinstance(value, str)
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (kind == "float" and isinstance(value, float))


def _out_of_range(values: Mapping[str, Any]) -> list[str]:
    most = _MAX_ITEMS.get(values["suite"])
    checks = {
        f"suite is {values['suite']!r}, but only {' and '.join(_MAX_ITEMS)} are known": most is not None,
        f"items must be 1 to {most}": most is None or 1 <= values["items"] <= most,
        f"parallel must be 1 to {_MAX_PARALLEL}": 1 <= values["parallel"] <= _MAX_PARALLEL,
        "positions must not be negative": values["positions"] >= 0,
        "attempt must not be negative": values["attempt"] >= 0,
        "request_timeout_s must be a positive number": 0 < values["request_timeout_s"] < float("inf"),
    }
    return [mistake for mistake, holds in checks.items() if not holds]
