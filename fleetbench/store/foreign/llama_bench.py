"""Results of llama.cpp's llama-bench: `-o jsonl`, `-o json` and `-o csv`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from fleetbench.matrix.identity import canonical
from fleetbench.store.foreign.document import Node, csv_rows, json_records, text
from fleetbench.store.foreign.record import Figure, Record, Said, Words

_NS = 1e-9
_TYPES = {
    "all F32": "f32",
    **{name: name.lower() for name in ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q6_K", "NVFP4")},
    **{f"Q{bits}_K - Small": f"q{bits}_k_s" for bits in (2, 3, 4, 5)},
    **{f"Q{bits}_K - Medium": f"q{bits}_k_m" for bits in (3, 4, 5)},
    "MXFP4 MoE": "mxfp4",
    "Q2_K - Medium": "q2_k",
    "Q3_K - Large": "q3_k_l",
    "TQ1_0 - 1.69 bpw ternary": "tq1_0",
    "TQ2_0 - 2.06 bpw ternary": "tq2_0",
    "IQ1_S - 1.5625 bpw": "iq1_s",
    "IQ1_M - 1.75 bpw": "iq1_m",
    "IQ2_XXS - 2.0625 bpw": "iq2_xxs",
    "IQ2_XS - 2.3125 bpw": "iq2_xs",
    "IQ2_S - 2.5 bpw": "iq2_s",
    "IQ2_M - 2.7 bpw": "iq2_m",
    "IQ3_XXS - 3.0625 bpw": "iq3_xxs",
    "IQ3_XS - 3.3 bpw": "iq3_xs",
    "IQ3_S - 3.4375 bpw": "iq3_s",
    "IQ3_S mix - 3.66 bpw": "iq3_m",
    "IQ4_XS - 4.25 bpw": "iq4_xs",
    "IQ4_NL - 4.5 bpw": "iq4_nl",
}
"""llama.cpp's names of file types, as model_type ends with, and llama-quantize's for the same."""
_WORDS: Words = {}
_COLUMNS = (
    *("n_prompt", "n_gen", "avg_ns", "avg_ts", "samples_ns", "samples_ts", "type_k", "type_v", "gpu_info"),
    *("build_number", "test_time"),
)
_SAID = ("build_commit", "cpu_info", "model_filename", "model_type", "model_size", "model_n_params")
"""What does not make another cell; all settings do."""
_MEASURED = ("avg_", "stddev_", "samples_")
"""How the names of what was measured begin: some builds measure more."""
_ENCODING = re.compile(r"(?P<base>.+?)[-.](?P<encoding>[A-Za-z0-9_]+?)(-\d{5}-of-\d{5})?\.gguf", re.IGNORECASE)


class LlamaBench:
    """A row is a prompt (pp), a generation (tg), or both (pg), of one sequence."""

    name = "llama-bench"
    about = "llama-bench of llama.cpp: -o jsonl, json or csv"
    licence = None
    words = _WORDS

    def read(self, path: Path) -> Iterator[Record]:
        if text(path).lstrip().startswith("build_commit,"):
            nodes = csv_rows(path, ("n_prompt", "n_gen", "avg_ts", "model_type"))
        else:
            nodes = json_records(path)
        for number, node in enumerate(nodes, start=1):
            yield _record(node, node.where or f"record {number}")


def _record(node: Node, where: str) -> Record:
    prompt, generated = (node.get(key).required().count() or 0 for key in ("n_prompt", "n_gen"))
    if not prompt + generated:
        raise node.get("n_prompt").fail("neither n_prompt nor n_gen: nothing was measured")
    weights = _weights(node.get("model_type").text() or "")
    hardware, gpus = _hardware(node)
    build = node.get("build_number").count()
    return Record(
        where=where,
        model=_model(node, weights),
        hardware=hardware,
        engine="llama.cpp",
        engine_version=f"b{build}" if build else node.get("build_commit").text(),
        recipe=weights,
        weights=weights,
        kv_k=node.get("type_k").text(),
        kv_v=node.get("type_v").text(),
        gpus=gpus,
        batch=1,
        context_tok=prompt or None,
        output_tok=generated or None,
        started_at=node.get("test_time").instant(),
        figures=_figures(node, prompt, generated),
        reported=_reported(node),
        conditions={"test": _test(prompt, generated), **_others(node)},
        said={key: node.get(key).scalar() for key in _SAID},
    )


def _figures(node: Node, prompt: int, generated: int) -> dict[str, Figure]:
    """Its speed is of all tokens of the test, without tokenizing and sampling; the mean over repetitions."""
    speed = node.get("avg_ts").required().positive()
    window_s = node.get("avg_ns").positive(_NS)
    both = bool(prompt and generated)
    return {
        "window_s": window_s,
        "total_tok_s": speed,
        "output_tok_s": (generated / window_s if both and window_s else None) if prompt else speed,
        "prefill_tok_s": None if generated else speed,
        "decode_tok_s": None if prompt else speed,
    }


def _test(prompt: int, generated: int) -> str:
    return ("pg" if generated else "pp") if prompt else "tg"


def _weights(model_type: str) -> str | None:
    """The file's type, which model_type ends with: `qwen2 7B Q4_K - Medium`; that alone where it is not known."""
    said = model_type.removesuffix(" (guessed)")
    found = max((name for name in _TYPES if said == name or said.endswith(f" {name}")), key=len, default=None)
    return _TYPES[found] if found else None


def _model(node: Node, weights: str | None) -> str:
    """The file's name without its encoding, which stands last in the names of GGUF files, and is the type's own."""
    path = node.get("model_filename").text()
    if path is None:
        return node.get("model_type").required().text() or ""
    name = PureWindowsPath(path).name
    match = _ENCODING.fullmatch(name)
    if match and weights and match["encoding"].lower() == weights:
        return match["base"]
    return name.removesuffix(".gguf")


def _hardware(node: Node) -> tuple[str | None, int | None]:
    """GPUs by their names, joined by commas; a CPU by its own where no GPU is named."""
    names = [name.strip() for name in (node.get("gpu_info").text() or "").split(",") if name.strip()]
    if not names:
        cpu = (node.get("cpu_info").text() or "").strip()
        return cpu or None, 0 if cpu else None
    chosen = node.get("devices").value in (None, "auto")
    kind = names[0] if len(set(names)) == 1 else ", ".join(names)
    return kind, len(names) if chosen and len(names) == 1 else None


def _reported(node: Node) -> dict[str, Said]:
    others = [key for key in node.mapping() if key.startswith(_MEASURED) and key not in _COLUMNS]
    samples = [sample.number() for sample in node.get("samples_ts").items()]
    return {
        **{key: node.get(key).scalar() for key in others if not isinstance(node.value[key], list | dict)},
        "samples_ts": canonical(samples) if samples else None,
        "repetitions": len(samples) or None,
    }


def _others(node: Node) -> dict[str, Said]:
    """Every setting but what has a column: threads, offloaded layers, depth, flash attention, ..."""
    return {
        key: node.get(key).scalar()
        for key, value in node.mapping().items()
        if not (key in _COLUMNS or key in _SAID or key.startswith(_MEASURED) or isinstance(value, list | dict))
    }
