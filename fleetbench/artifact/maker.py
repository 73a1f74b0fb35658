"""One step of making an artifact, in a process of its own: its memory is its own, and so is its death.

Run as a program it is that process: a step as JSON on stdin, what came of it as JSON on stdout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetbench.artifact import calibrate, imatrix, quantize, source
from fleetbench.artifact.types import ArtifactError
from fleetbench.errors import InputError
from fleetbench_collectors.owner import end_with

_STATUS = Path("/proc/self/status")
_SAID = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a step cost and found.

    peak_rss_bytes: the most memory that the process had resident at once, interpreter and libraries included, pages
    of files that it read by mapping too (Linux's VmHWM); None where the system does not say. tokens: of a calibration.
    """

    peak_rss_bytes: int | None
    tokens: int | None = None


def make(step: str, **arguments: Any) -> Made:
    """Do one of `STEPS` in a new process, which ends with this one.

    Raises:
        ArtifactError: it cannot be made, or the process died.
        InputError: the model's folder is broken.
        OSError: no room, no rights.
    """
    order = json.dumps({"step": step, **arguments}, default=str)
    argv = [sys.executable, "-P", "-m", "fleetbench.artifact.maker", str(os.getpid())]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # its threads wait by spinning, and others need the cores
    done = subprocess.run(argv, input=order.encode(), capture_output=True, env=environment, check=False)
    if done.returncode != 0:
        raise ArtifactError(f"what makes the {step} {_death(done)}")
    answer = json.loads(done.stdout)
    match answer.get("error"):
        case None:
            return Made(peak_rss_bytes=answer["peak_rss_bytes"], tokens=answer["tokens"])
        case {"input": [*mistakes]}:
            raise InputError(tuple(mistakes))
        case {"errno": int(number), "strerror": str(why)}:
            raise OSError(number, why)
        case {"artifact": str(why)}:
            raise ArtifactError(why)
        case other:
            raise ArtifactError(f"what makes the {step} said {other!r}")


def _death(done: subprocess.CompletedProcess[bytes]) -> str:
    code = done.returncode
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    said = lines[-1][:_SAID] if lines else "it said nothing"
    if code < 0:
        return f"was killed by signal {-code}{' (is there enough memory?)' if code == -9 else ''}: {said}"  # noqa: PLR2004
    return f"ended with exit code {code}: {said}"


def main() -> None:
    """Answer the step on stdin; what the libraries print goes to stderr."""
    end_with(int(sys.argv[1]))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        answers.write(json.dumps(answer(json.load(sys.stdin))))


def answer(order: Mapping[str, Any]) -> dict[str, Any]:
    """What a step comes to; a foreseeable failure is an answer too."""
    arguments = dict(order)
    try:
        tokens = STEPS[arguments.pop("step")](**arguments)
    except ArtifactError as error:
        return {"error": {"artifact": str(error)}}
    except InputError as error:
        return {"error": {"input": list(error.mistakes)}}
    except OSError as error:
        return {"error": {"errno": error.errno or 0, "strerror": error.strerror or str(error)}}
    return {"peak_rss_bytes": _peak_rss_bytes(), "tokens": tokens}


def _peak_rss_bytes() -> int | None:
    """The kernel's high-water mark of this program; `ru_maxrss` would begin with its starter's."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def _base(*, model: str, model_path: str | None, digest: str, target: str) -> None:
    source.write_base(model, None if model_path is None else Path(model_path), digest, Path(target))


def _matrix(*, base: str, text: str, sha256: str, target: str, samples: int | None, sequence_tok: int | None) -> int:
    return calibrate.calibrate(Path(base), Path(text), sha256, Path(target), samples=samples, sequence_tok=sequence_tok)


def _weights(
    *, base: str, target: str, weights: str, protect: list[str], matrix: str | None, sha256: str | None
) -> None:
    found = None if matrix is None else imatrix.read(Path(matrix))
    notes: dict[str, str | int] = {}
    if found is not None:
        notes = {"quantize.imatrix.dataset": f"sha256:{sha256}", "quantize.imatrix.entries_count": len(found.means)}
        notes |= {} if found.chunks is None else {"quantize.imatrix.chunks_count": found.chunks}
    quantize.quantize(Path(base), Path(target), weights, importance=found, protect=protect, notes=notes)


STEPS: Mapping[str, Callable[..., int | None]] = {"base": _base, "matrix": _matrix, "weights": _weights}

if __name__ == "__main__":
    main()
