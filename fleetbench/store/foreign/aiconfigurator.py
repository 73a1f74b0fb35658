"""Measured rows of aiconfigurator's silicon CSV: TTFT and TPOT by model, engine, GPU, formats and topology."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from fleetbench.store.foreign.document import Node, csv_rows
from fleetbench.store.foreign.record import Record, Said, Words

_NEEDED = ("backend", "model_path", "system", "mode", "isl", "osl", "silicon_ttft_ms", "silicon_tpot_ms")
_WORDS: Words = {
    "weights": {"float16": None},
    "hardware": {f"{gpu}_sxm": f"{gpu}-sxm" for gpu in ("a100", "b200", "b300", "h100", "h200")},
}
_MODES: Mapping[str, tuple[str, str | None]] = {
    "int8_wo": ("int8", None),
    "int4_wo": ("int4", None),
    "sq": ("int8", "int8"),
    "fp8": ("fp8", "fp8"),
    "fp8_block": ("fp8", "fp8"),
    "w4afp8": ("int4", "fp8"),
    "nvfp4": ("nvfp4", "nvfp4"),
    "w4a16_mxfp4": ("mxfp4", None),
    "w4a8_mxfp4_mxfp8": ("mxfp4", "mxfp8"),
}
"""Weights and activations of its quant modes; 16 bits of either kind are float16 to it. Its `precision` is short for
several formats: fp4 tells neither NVFP4 nor MXFP4."""
_PLAIN = {"bf16": ("bf16", "bf16"), "fp16": ("fp16", "fp16")}
"""Precisions that are a format."""
_SOURCE = re.compile(r"(?:^|;)\s*(silicon_concurrency|measured)=([^;]*)")
_TOPOLOGY = (
    *("mode", "gemm_quant_mode", "moe_quant_mode", "batch_size", "moe_tp_size", "moe_ep_size"),
    *(
        f"{role}_{part}"
        for role in ("prefill", "decode")
        for part in (
            "batch_size",
            "num_workers",
            "tp_size",
            "pp_size",
            "attention_dp_size",
            "moe_tp_size",
            "moe_ep_size",
        )
    ),
)


class AiConfigurator:
    """Its exporter takes the means of InferenceX and of NVIDIA's own runs, as TTFT and TPOT, in ms."""

    name = "aiconfigurator"
    about = "aiconfigurator: CSV of measured (silicon) TTFT and TPOT"
    licence = "Apache-2.0 (ai-dynamo/aiconfigurator)"
    words = _WORDS

    def read(self, path: Path) -> Iterator[Record]:
        for node in csv_rows(path, _NEEDED):
            yield _record(node)


def _record(node: Node) -> Record:
    apart = node.get("mode").text() == "disagg"
    facts = dict(_SOURCE.findall(node.get("silicon_data_source").text() or ""))
    weights, activations = _formats(node)
    precision = node.get("precision").text()
    return Record(
        where=node.where,
        model=node.get("model_path").required().text() or "",
        hardware=node.get("system").required().text(),
        engine=node.get("backend").required().text(),
        engine_version=node.get("backend_version").text(),
        recipe="-".join(part for part in (precision, "disagg" if apart else None) if part) or None,
        weights=weights,
        activations=activations,
        gpus=_gpus(node, apart=apart),
        tp=_degree(node, "tp_size"),
        pp=_degree(node, "pp_size"),
        dp=_degree(node, "attention_dp_size"),
        batch=_batch(node, facts),
        context_tok=node.get("isl").required().count(),
        output_tok=node.get("osl").required().count(),
        started_at=_fact(node, facts, "measured").instant(),
        figures={
            "ttft_mean_ms": node.get("silicon_ttft_ms").required().positive(),
            "tpot_mean_ms": node.get("silicon_tpot_ms").required().positive(),
        },
        conditions=_conditions(node),
        said={"silicon_data_source": node.get("silicon_data_source").text()},
        left_out=("id: a row's own name, made of the rest",) if node.has("id") else (),
    )


def _formats(node: Node) -> tuple[str | None, str | None]:
    """What the matrices of attention and of experts agree on; where they differ, no one format."""
    modes = {mode for key in ("gemm_quant_mode", "moe_quant_mode") if (mode := node.get(key).text())}
    if not modes:
        return _PLAIN.get(node.get("precision").text() or "", (None, None))
    found = {_MODES.get(mode, (mode, None)) for mode in modes}
    return found.pop() if len(found) == 1 else (None, None)


def _degree(node: Node, key: str) -> int | None:
    return node.get(key).count() or None


def _batch(node: Node, facts: Mapping[str, str]) -> int | None:
    """Requests in flight of the whole deployment; its batch_size is that of one data-parallel rank."""
    in_flight = _fact(node, facts, "silicon_concurrency").count()
    if in_flight:
        return in_flight
    a_rank, ranks = node.get("batch_size").count(), _degree(node, "attention_dp_size")
    return a_rank * ranks if a_rank and ranks else None


def _fact(node: Node, facts: Mapping[str, str], key: str) -> Node:
    """One of the facts that silicon_data_source lists as key=value."""
    return Node(value=facts.get(key) or None, where=f"{node.where}: silicon_data_source, {key}", plain=True)


def _gpus(node: Node, *, apart: bool) -> int | None:
    """GPUs of all engines; of prefill and decode workers only where their numbers are given."""
    if not apart:
        return _worker(node, "")
    parts = [
        (_degree(node, f"{role}_num_workers") or 0) * (_worker(node, f"{role}_") or 0) for role in ("prefill", "decode")
    ]
    return sum(parts) if all(parts) else None


def _worker(node: Node, role: str) -> int | None:
    """Of one engine: tp x pp x ranks of attention; without those only where experts need no more than tp x pp."""
    sizes = {key: _degree(node, f"{role}{key}") for key in ("tp_size", "pp_size", "attention_dp_size")}
    experts = (_degree(node, f"{role}moe_tp_size") or 1) * (_degree(node, f"{role}moe_ep_size") or 1)
    if sizes["tp_size"] is None:
        return None
    one = sizes["tp_size"] * (sizes["pp_size"] or 1)
    if sizes["attention_dp_size"] is None:
        return one if experts in (1, one) else None
    return one * sizes["attention_dp_size"]


def _conditions(node: Node) -> dict[str, Said]:
    return {key: node.get(key).text() for key in _TOPOLOGY}
