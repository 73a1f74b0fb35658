"""Makes one checkpoint with llmcompressor: `python -I compress_tool.py SPEC.json`, by the tool's own Python.

Never imported by fleetbench and imports nothing of it. `oneshot` writes the SPEC, and reads the result that it names.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("llmcompressor", "compressed-tensors", "transformers", "torch")
WEIGHTS, CONFIG = ".safetensors", "config.json"
_COPIED = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_PR_SET_PDEATHSIG = 1
_MAX_TEXT_BYTES = 200_000_000
_REFUSED = 3


class Refusal(Exception):  # noqa: N818 - an outcome with a word for `oneshot`, not a fault
    """It cannot be made: a word of `oneshot`'s table, and a sentence."""

    def __init__(self, word: str, sentence: str) -> None:
        super().__init__(word, sentence)
        self.word, self.sentence = word, sentence


def main(spec_path: str) -> int:
    """Make the checkpoint; the exit code is 0, or 3 with the reason in the result file."""
    spec = json.loads(Path(spec_path).read_text(encoding="utf-8"))
    _die_with(spec["parent"])
    result = Path(spec["result"])
    try:
        report = _make(spec)
    except Refusal as refusal:
        result.write_text(json.dumps({"word": refusal.word, "sentence": refusal.sentence}), encoding="utf-8")
        return _REFUSED
    result.write_text(json.dumps(report), encoding="utf-8")
    return 0


def windows(ids: Sequence[int], prefix: Sequence[int], *, samples: int, length: int) -> list[list[int]]:
    """Sequences of `length` tokens from a text, evenly spread over it, each led by `prefix`; at most `samples`."""
    body = length - len(prefix)
    whole = len(ids) // body
    count = min(whole, samples)
    starts = [index * whole // count * body for index in range(count)]
    return [[*prefix, *ids[start : start + body]] for start in starts]


def _make(spec: dict[str, Any]) -> dict[str, Any]:
    torch = import_module("torch")
    torch.manual_seed(0)
    accelerated = torch.accelerator.is_available()
    if spec["method"] == "awq" and not accelerated:
        raise Refusal(
            "no accelerator", "llmcompressor's awq needs a GPU and its torch sees none: take method gptq or rtn"
        )
    text = None if spec["calibration"] is None else _text(spec["calibration"])
    model = _load(spec["model"])
    dataset, tokens = (None, None) if text is None else _samples(spec, text)
    _quantize(spec, model, dataset)
    layers, attentions = _count(spec, model)
    model.save_pretrained(spec["target"])
    _copy(Path(spec["model"]), Path(spec["target"]))
    return {
        "layers": layers,
        "attentions": attentions,
        "tool": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        "calibration_tok": tokens,
        "peak_rss_bytes": _peak_rss_bytes(),
        "peak_device_bytes": torch.cuda.max_memory_allocated() if accelerated and torch.cuda.is_available() else None,
    }


def _load(folder: str) -> Any:
    """The model, every weight of it from the folder: transformers fills what is missing with random numbers."""
    transformers = import_module("transformers")
    try:
        model, found = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", local_files_only=True, output_loading_info=True
        )
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        raise Refusal("bad checkpoint", f"transformers cannot load {folder}: {_line(error)}") from error
    lacks = sorted(found.get("missing_keys", ())) + sorted(str(k) for k in found.get("mismatched_keys", ()))
    if lacks:
        raise Refusal("bad checkpoint", f"{folder} lacks weights: {', '.join(lacks[:3])} ({len(lacks)} in all)")
    return model


def _text(calibration: dict[str, Any]) -> str:
    path = Path(calibration["path"])
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise Refusal("calibration", f"{path} is longer than {_MAX_TEXT_BYTES // 10**6} MB: take a part of it")
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal("calibration", f"{path} is not a text in UTF-8 that can be read: {_line(error)}") from error
    if hashlib.sha256(raw).hexdigest() != calibration["sha256"]:
        raise Refusal("calibration", f"{path} changed while it was read: plan again")
    return text


def _samples(spec: dict[str, Any], text: str) -> tuple[Any, int]:
    """The text as a data set of token ids, and how many tokens it holds."""
    tokenizer = import_module("transformers").AutoTokenizer.from_pretrained(spec["model"], local_files_only=True)
    asked, path = spec["calibration"], spec["calibration"]["path"]
    length, samples = asked["sequence_tok"], asked["samples"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    first = tokenizer("a")["input_ids"][:1]
    prefix = first if first and first[0] == tokenizer.bos_token_id else []
    if length <= len(prefix) or len(ids) < length - len(prefix):
        raise Refusal("calibration", f"{path} has {len(ids)} tokens, not one sequence of {length}: give a longer text")
    rows = windows(ids, prefix, samples=samples, length=length)
    if len(rows) < samples and asked["exact"]:
        why = f"{path} gives {len(rows)} sequences of {length} tokens where {samples} are asked for"
        raise Refusal("calibration", f"{why}: give a longer text, or ask for fewer samples")
    data = {"input_ids": rows, "attention_mask": [[1] * length for _ in rows]}
    return import_module("datasets").Dataset.from_dict(data), len(rows) * length


def _quantize(spec: dict[str, Any], model: Any, dataset: Any) -> None:
    modifiers = import_module("llmcompressor.modifiers.quantization")
    transforms = import_module("llmcompressor.modifiers.transform")
    arguments: dict[str, Any] = {"targets": ["Linear"], "ignore": spec["ignore"]}
    if spec["preset"]:
        arguments["config_groups"] = {"group_0": _scheme(spec)}
    if spec["kv"]:
        arguments["kv_cache_scheme"] = {**spec["kv"], "symmetric": True}
    kind = modifiers.GPTQModifier if spec["method"] == "gptq" else modifiers.QuantizationModifier
    before = {"awq": "AWQModifier", "smoothquant": "SmoothQuantModifier"}.get(spec["method"])
    recipe = [*([getattr(transforms, before)()] if before else []), kind(**arguments)]
    calibration = {}
    if dataset is not None:
        calibration = {
            "dataset": dataset,
            "tokenizer": import_module("transformers").AutoTokenizer.from_pretrained(spec["model"]),
            "num_calibration_samples": len(dataset),
            "shuffle_calibration_samples": False,
            "max_seq_length": spec["calibration"]["sequence_tok"],
        }
    try:
        import_module("llmcompressor").oneshot(model=model, recipe=recipe, **calibration)
    except ValueError as error:
        if "not divisible" in str(error):
            raise Refusal("group size", f"the widths of its layers do not divide: {_line(error)}") from error
        raise


def _count(spec: dict[str, Any], model: Any) -> tuple[int, int]:
    """Layers that must come out quantized, and attentions whose cache must have scales: by the model alone."""
    matched = import_module("compressed_tensors.utils").match_named_modules(model, ["Linear"], spec["ignore"])
    cached = import_module("compressed_tensors.quantization").is_cached_attention_module
    layers = sum(1 for _ in matched) if spec["preset"] else 0
    return layers, sum(cached(module) for module in model.modules()) if spec["kv"] else 0


def _scheme(spec: dict[str, Any]) -> Any:
    """The preset, bent to the numbers that were asked for where it differs."""
    library = import_module("compressed_tensors.quantization")
    preset = library.preset_name_to_scheme(spec["preset"], ["Linear"])
    preset.format = spec["form"]
    weights = preset.weights.model_dump()
    if any(weights[key] != value for key, value in spec["weights"].items() if key in ("strategy", "group_size")):
        weights |= {key: spec["weights"][key] for key in ("strategy", "group_size")}
        preset.weights = library.QuantizationArgs(**weights)
    if spec["inputs"] is None:
        preset.input_activations = None
    elif preset.input_activations.dynamic != spec["inputs"]["dynamic"]:
        preset.input_activations = library.QuantizationArgs(**spec["inputs"], symmetric=True, observer="static_minmax")
    return preset


def _copy(model: Path, target: Path) -> None:
    """The tokenizer's files as they are, so that every format of a model is served with the same; all readable."""
    for path in sorted(model.iterdir()):
        kept = path.name == CONFIG or path.name.endswith(f"{WEIGHTS}.index.json")
        if path.is_file() and path.suffix in _COPIED and not kept:
            shutil.copyfile(path, target / path.name)
    for path in target.iterdir():
        path.chmod(0o644)


def _peak_rss_bytes() -> int | None:
    """VmHWM: unlike ru_maxrss it starts at exec, and does not hold what the parent once had."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the process that asked for this is gone")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
