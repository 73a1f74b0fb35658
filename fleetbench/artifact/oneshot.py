"""Makes a checkpoint in compressed-tensors form: runs llmcompressor in its own Python, and checks what came out."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetbench.artifact import checkpoint, toolenv
from fleetbench.artifact.compressed import SAMPLES, SEQUENCE_TOK, Scheme, ignored, scheme
from fleetbench.artifact.presets import Numbers
from fleetbench.artifact.toolenv import ToolEnv
from fleetbench.artifact.types import ArtifactError
from fleetbench.matrix.types import Calibration, Recipe

LIMIT_S = 6 * 3600.0
_SCRIPT = Path(__file__).resolve().with_name("compress_tool.py")
_SPEC, _RESULT = "spec.json", "result.json"
_CAUSES = (
    # What a log or a refusal says -> the cause in a word or two, and what to do.
    (r"No space left on device|Disk quota exceeded|os error 28", "disk full", "make room, or set FLEETBENCH_CACHE"),
    (
        r"MemoryError|[Oo]ut of memory|OutOfMemoryError|Cannot allocate memory|can't allocate memory",
        "out of memory",
        "take a machine with more, or a shorter calibration",
    ),
    (r"ModuleNotFoundError|ImportError", "missing package", f"unset {toolenv.VARIABLE}, or install it there"),
    (
        r"accelerator device when none|No accelerator",
        "no accelerator",
        "take method gptq or rtn, or a machine with a GPU",
    ),
    (r"SafetensorError|deserializing header", "bad checkpoint", "get the model again"),
)
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A checkpoint that came out as asked, and what it cost.

    layers: that were quantized, a count; tool: what made it, with versions; calibration_tok: tokens that were looked
    at; wall_s: of the tool, its start included; peak_rss_bytes: the most resident memory of the tool's process;
    peak_device_bytes: the most that torch held on the accelerator, None without one.
    """

    layers: int
    tool: str
    calibration_sha256: str | None
    calibration_tok: int | None
    wall_s: float
    peak_rss_bytes: int | None
    peak_device_bytes: int | None


def make(
    recipe: Recipe,
    model: Path,
    target: Path,
    *,
    tool: ToolEnv,
    log: Path,
    environment: Mapping[str, str] = os.environ,
    limit_s: float = LIMIT_S,
) -> Made:
    """Write the checkpoint of `recipe` to the folder `target`, whole and checked or not at all.

    Args:
        recipe: its calibration's path is read as it stands.
        model: a Hugging Face folder: config.json, tokenizer, safetensors.
        target: must not exist; `target` with `.work` at its end is used meanwhile.
        tool: of `toolenv.ensure`.
        log: written anew; the tool's output goes there.
        environment: of the tool, less what would make it ask the hub.
        limit_s: seconds that it may take.

    Raises:
        ArtifactError: it makes no such checkpoint, or failed: the cause in a word, the log's last line.
        OSError: no room, no rights for what this process itself writes.
    """
    asked = scheme(recipe)
    config = _config(model)
    kept = ignored(recipe.protect, layers=_count(config, "num_hidden_layers", model))
    text = _calibration(recipe.calibration, config, model) if asked.calibrated and recipe.calibration else None
    if target.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    work = target.with_name(f"{target.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    spec = {**_spec(asked, kept), "calibration": text, "parent": os.getpid()}
    spec |= {"model": str(model.absolute()), "target": str(target.absolute()), "result": str(work.absolute() / _RESULT)}
    offline = {**environment, **_OFFLINE, "HF_HOME": str(work.absolute() / "hub"), "TMPDIR": str(work.absolute())}
    began = time.monotonic()
    try:
        report = _run(spec, work, tool=tool, log=log, environment=offline, limit_s=limit_s)
        checkpoint.check(target, asked, ignored=kept, layers=report["layers"], attentions=report["attentions"])
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, ArtifactError):
            raise ArtifactError(f"{recipe.name} of {model}: {error} (log: {log})") from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Made(
        layers=report["layers"],
        tool=report["tool"],
        calibration_sha256=text["sha256"] if text else None,
        calibration_tok=report["calibration_tok"],
        wall_s=time.monotonic() - began,
        peak_rss_bytes=report["peak_rss_bytes"],
        peak_device_bytes=report["peak_device_bytes"],
    )


def _run(
    spec: Mapping[str, Any], work: Path, *, tool: ToolEnv, log: Path, environment: Mapping[str, str], limit_s: float
) -> dict[str, Any]:
    """Run the tool's script; what it reports of a checkpoint that it wrote."""
    (work / _SPEC).write_text(json.dumps(spec), encoding="utf-8")
    log.write_bytes(b"")
    argv = [str(tool.python), "-I", str(_SCRIPT), str(work.absolute() / _SPEC)]
    code = toolenv.run(argv, log=log, environment=environment, limit_s=limit_s, folder=work)
    report = _report(work / _RESULT)
    if code != 0 or "layers" not in report:
        raise ArtifactError(why(code, report, toolenv.tail(log), limit_s))
    return report


def why(code: int | None, report: Mapping[str, Any], text: str, limit_s: float) -> str:
    """The cause of a failure in a word or two, what the tool said last, and what to do.

    Args:
        code: exit code; negative for a signal; None where the time was up.
        report: what the tool wrote of itself: `word` and `sentence` where it refused.
        text: the end of its log.
        limit_s: seconds that it was given.
    """
    if "word" in report:
        return f"{report['word']}: {report['sentence']}"
    last = toolenv.last_line(text)
    if code is None:
        return f"timeout: it took longer than {limit_s:g} s; its last line: {last}"
    for pattern, word, remedy in _CAUSES:
        if re.search(pattern, text):
            return f"{word}: {last}; {remedy}"
    if code == -signal.SIGKILL:
        return f"out of memory: the system killed it, as it does where memory runs out; its last line: {last}"
    return f"failed (exit {code}): {last}"


def _spec(asked: Scheme, kept: tuple[str, ...]) -> dict[str, Any]:
    return {
        "preset": asked.preset,
        "form": asked.form,
        "method": asked.method,
        "weights": _arguments(asked.weights),
        "inputs": _arguments(asked.inputs),
        "kv": _arguments(asked.kv),
        "ignore": list(kept),
    }


def _arguments(numbers: Numbers | None) -> dict[str, Any] | None:
    """As compressed-tensors names them."""
    if numbers is None:
        return None
    return {
        "num_bits": numbers.bits,
        "type": numbers.kind,
        "strategy": numbers.strategy,
        "group_size": numbers.group_size,
        "dynamic": numbers.dynamic,
    }


def _calibration(asked: Calibration, config: Mapping[str, Any], model: Path) -> dict[str, Any]:
    path = Path(asked.path).absolute()
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ArtifactError(f"calibration {path}: {error.strerror or error}") from error
    if asked.sha256 not in (None, sha256):
        raise ArtifactError(f"calibration {path} is not the text that was planned: plan again")
    most = _count(config, "max_position_embeddings", model)
    length = asked.sequence_tok or min(SEQUENCE_TOK, most)
    if length > most:
        raise ArtifactError(f"calibration: sequences of {length} tokens are longer than the model's {most}")
    return {
        "path": str(path),
        "sha256": sha256,
        "samples": asked.samples or SAMPLES,
        "exact": asked.samples is not None,
        "sequence_tok": length,
    }


def _config(model: Path) -> dict[str, Any]:
    path = model / checkpoint.CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: it is not JSON") from error
    if not isinstance(config, dict):
        raise ArtifactError(f"{path}: it is not a JSON object")
    if config.get("quantization_config"):
        raise ArtifactError(f"{model} is quantized already: give the model in 16 bits")
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def _count(config: Mapping[str, Any], key: str, model: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArtifactError(f"{model / checkpoint.CONFIG}: {key} is {value!r}, not a count")
    return value


def _report(path: Path) -> dict[str, Any]:
    """What the tool wrote of itself; empty where it died before."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}
