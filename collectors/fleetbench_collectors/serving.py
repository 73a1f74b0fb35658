"""Measures in a process of its own: JSON specifications in by stdin, Arrow files out, one JSON answer a line.

    {"kind": "load" | "quality", ..., "out": DIR}
 -> {"ok": true, "tables": {"requests": "DIR/requests.arrow"}, "summary": {...}, "window": [ns, ns] | null,
     "evidence": {...} | null}
  | {"ok": false, "kind": "bad_spec", "error": "one sentence"}

Loads nothing heavy before the first specification, and ends with its stdin or with the process that owns it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from fleetbench_collectors.failure import WorkerFailure
from fleetbench_collectors.load.spec import SpecError
from fleetbench_collectors.owner import end_with

HANDLERS: Mapping[str, str] = {
    "load": "fleetbench_collectors.load.trial",
    "quality": "fleetbench_collectors.quality.run",
}
"""The module whose `run(spec) -> {"tables", "summary", "window"?, "evidence"?}` does a kind of trial."""


def main() -> None:
    """Answers specifications until stdin ends. What the handlers print goes to stderr."""
    if len(sys.argv) > 1:
        end_with(int(sys.argv[1]))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        serve(sys.stdin, answers)


def serve(specs: TextIO, answers: TextIO) -> None:
    """One answer a line for one specification a line."""
    for line in specs:
        if line.strip():
            answers.write(json.dumps(answer(line), allow_nan=False) + "\n")
            answers.flush()


def answer(line: str) -> dict[str, Any]:
    """What a specification comes to; a foreseeable failure is an answer too."""
    try:
        return {"ok": True, **_measure(_parsed(line))}
    except WorkerFailure as failure:
        return _refused(failure.kind, str(failure))
    except SpecError as error:
        return _refused("bad_spec", str(error))


def _measure(spec: dict[str, Any]) -> dict[str, Any]:
    kind = spec.pop("kind", None)
    if not isinstance(kind, str) or kind not in HANDLERS:
        raise SpecError(f"kind must be one of {', '.join(HANDLERS)}, not {kind!r}")
    if not isinstance(spec.get("out"), str):
        raise SpecError("out must be the folder for the tables")
    result = importlib.import_module(HANDLERS[kind]).run(spec)
    out = Path(spec["out"])
    tables = {name: _written(out, name, table) for name, table in result["tables"].items()}
    return {
        "tables": tables,
        "summary": result["summary"],
        "window": result.get("window"),
        "evidence": result.get("evidence"),
    }


def _parsed(line: str) -> dict[str, Any]:
    try:
        spec = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"no JSON: {error}") from error
    if not isinstance(spec, dict):
        raise SpecError("a specification is a JSON object")
    return spec


def _refused(kind: str, error: str) -> dict[str, Any]:
    return {"ok": False, "kind": kind, "error": error}


def _written(out: Path, name: str, table: Any) -> str:
    """The path of a table's Arrow file, which appears whole or not at all."""
    from pyarrow import feather  # noqa: PLC0415 - 60 MB that only an answer with tables needs

    target, partial = out / f"{name}.arrow", out / f"{name}.arrow.tmp"
    try:
        out.mkdir(parents=True, exist_ok=True)
        feather.write_feather(table, str(partial), compression="uncompressed")
        partial.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise WorkerFailure("disk", f"{target} cannot be written: {error}") from error
    return str(target)
