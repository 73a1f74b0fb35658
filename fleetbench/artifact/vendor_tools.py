"""What one would type to make a recipe with NVIDIA ModelOpt or AMD Quark. Documented, never run here. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetbench.artifact.presets import SIXTEEN
from fleetbench.matrix.types import Recipe

MODELOPT_SOURCE = (
    "NVIDIA Model-Optimizer 0.46.0: examples/hf_ptq/hf_ptq.py and modelopt_recipes/configs/ptq/presets, read 2026-11-24"
)
QUARK_SOURCE = (
    "amd-quark 0.13: quark/experimental/cli/torch_llm_ptq.py and quark/torch/quantization/config/template.py, "
    "read 2026-11-24"
)
_Recipe = tuple[str, str, str, str]
_MODELOPT: Mapping[_Recipe, str] = {
    # (weights, activations or none, scales or none, method) -> --qformat
    ("fp8", "fp8", "static", "rtn"): "fp8",
    ("fp8", "fp8", "dynamic", "rtn"): "fp8_per_channel_per_token",
    ("int8", "int8", "static", "rtn"): "int8",
    ("int8", "int8", "static", "smoothquant"): "int8_smoothquant",
    ("int8", "", "", "rtn"): "int8_weight_only",
    ("int4", "", "", "rtn"): "int4_blockwise_weight_only",
    ("int4", "", "", "awq"): "int4_awq",
    ("int4", "fp8", "static", "awq"): "w4a8_awq_beta",
    ("nvfp4", "nvfp4", "dynamic", "rtn"): "nvfp4",
    ("nvfp4", "", "", "rtn"): "w4a16_nvfp4",
    ("mxfp8", "mxfp8", "dynamic", "rtn"): "mxfp8",
    ("mxfp6", "mxfp6", "dynamic", "rtn"): "mxfp6",
    ("mxfp4", "mxfp4", "dynamic", "rtn"): "mxfp4",
    ("mxfp4", "fp8", "static", "rtn"): "w4a8_mxfp4_fp8",
}
_QUARK: Mapping[tuple[str, str, str], str] = {
    # (weights, activations or none, scales or none) -> --quant_scheme; methods are --quant_algo
    ("fp8", "fp8", "static"): "fp8",
    ("fp8", "fp8", "dynamic"): "ptpc_fp8",
    ("int8", "int8", "static"): "int8",
    ("int4", "", ""): "int4_wo_{group}",
    ("int4", "fp8", "dynamic"): "int4_fp8",
    ("nvfp4", "nvfp4", "dynamic"): "nvfp4",
    ("mxfp6", "mxfp6", "dynamic"): "mxfp6_e3m2",
    ("mxfp4", "mxfp4", "dynamic"): "mxfp4",
    ("mxfp4", "", ""): "mxfp4_weight_only",
    ("mxfp4", "fp8", "static"): "mxfp4_fp8",
}
_QUARK_METHODS = ("rtn", "gptq", "awq", "smoothquant", "quarot")
_QUARK_GROUPS = (32, 64, 128)
_GROUP = 128
_OWN = ("fp8", "int8", "nvfp4", "mxfp4", "mxfp6", "mxfp8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to type; install: what to install before; notes: where it does not do all that the recipe says."""

    tool: str
    install: str
    argv: tuple[str, ...]
    notes: tuple[str, ...]
    source: str


def commands(recipe: Recipe, model: Path, target: Path) -> tuple[Command, ...]:
    """Commands of the vendors' tools that make this recipe, none where neither does.

    Nobody ran them here: they are what the tools' own sources say. Both write their own forms, not
    compressed-tensors, and read a default calibration set unless the notes say how to give them another.
    """
    weights, asked, method = recipe.weights, recipe.activations, "rtn" if recipe.method == "auto" else recipe.method
    inputs = "" if asked in SIXTEEN and not (asked == "auto" and weights in _OWN) else asked
    inputs = weights if inputs == "auto" else inputs
    scales = ("dynamic" if recipe.scales == "auto" else recipe.scales) if inputs else ""
    found = (
        _modelopt(recipe, (weights, inputs, scales, method), model, target),
        _quark(recipe, (weights, inputs, scales, method), model, target),
    )
    return tuple(command for command in found if command is not None)


def _modelopt(recipe: Recipe, what: _Recipe, model: Path, target: Path) -> Command | None:
    qformat = _MODELOPT.get(what)
    kv = {"fp8": "fp8", "nvfp4": "nvfp4"}.get(recipe.kv.k) if recipe.calibration else None
    if qformat is None or (recipe.weights == "int4" and recipe.group_size not in (None, _GROUP)):
        return None
    argv = ["python", "hf_ptq.py", "--pyt_ckpt_path", str(model), "--qformat", qformat]
    argv += ["--kv_cache_qformat", kv or "none", "--export_path", str(target)]
    notes = []
    text = recipe.calibration
    if text is not None:
        argv += ["--dataset", f"{text.path}.jsonl"]
        argv += ["--calib_size", str(text.samples)] if text.samples else []
        argv += ["--calib_seq", str(text.sequence_tok)] if text.sequence_tok else []
        notes.append(f'write {text.path} as lines of {{"text": ...}} to {text.path}.jsonl first')
    else:
        notes.append("without --dataset it looks at a default mix of news articles and NVIDIA's own post-training data")
    beyond = [word for word in recipe.protect if word not in ("lm_head", "embeddings")]
    if beyond:
        notes.append(f"it has no option to protect {', '.join(beyond)}: write a recipe file and pass it with --recipe")
    return Command(
        tool="NVIDIA ModelOpt 0.46.0",
        install="pip install 'nvidia-modelopt[hf]==0.46.0'; hf_ptq.py: its repository, tag 0.46.0, examples/hf_ptq",
        argv=tuple(argv),
        notes=tuple(notes),
        source=MODELOPT_SOURCE,
    )


def _quark(recipe: Recipe, what: _Recipe, model: Path, target: Path) -> Command | None:
    *formats, method = what
    group = recipe.group_size or _GROUP
    scheme = _QUARK.get((formats[0], formats[1], formats[2]))
    if scheme is None or method not in _QUARK_METHODS or ("{" in scheme and group not in _QUARK_GROUPS):
        return None
    argv = ["quark-cli", "torch-llm-ptq", "--model_dir", str(model.absolute()), "--output_dir", str(target.absolute())]
    argv += ["--quant_scheme", scheme.format(group=group)]
    argv += ["--quant_algo", method] if method != "rtn" else []
    argv += ["--kv_cache_dtype", "fp8"] if recipe.kv.k == "fp8" and recipe.calibration else []
    text = recipe.calibration
    argv += ["--num_calib_data", str(text.samples)] if text and text.samples else []
    argv += ["--seq_len", str(text.sequence_tok)] if text and text.sequence_tok else []
    argv += ["--no_trust_remote_code", "--skip_evaluation"]
    notes = [
        "it looks at one of its own calibration sets (--dataset, pileval by default): a text by path it does not take"
    ]
    beyond = [word for word in recipe.protect if word not in ("lm_head", "embeddings")]
    if beyond:
        notes.append(f'protect {", ".join(beyond)} by --exclude_layers lm_head "*.layers.N.*" for each of them')
    return Command(
        tool="AMD Quark 0.13",
        install="pip install 'amd-quark[cli]==0.13'",
        argv=tuple(argv),
        notes=tuple(notes),
        source=QUARK_SOURCE,
    )
