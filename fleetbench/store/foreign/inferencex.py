"""Results of InferenceX (before: InferenceMAX): times in seconds, throughput for each GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetbench.matrix.types import Outcome
from fleetbench.store.foreign import serving
from fleetbench.store.foreign.document import Node, json_records
from fleetbench.store.foreign.inferencex_matrix import convert
from fleetbench.store.foreign.inferencex_words import WORDS
from fleetbench.store.foreign.names import as_published
from fleetbench.store.foreign.record import Converted, Figure, ForeignError, Record, Said

_S = 1000.0
_TOPOLOGY = (
    *("ep", "dp_attention", "dcp_size", "pcp_size", "is_multinode", "disagg", "num_prefill_gpu", "num_decode_gpu"),
    *(f"{role}_{axis}" for role in ("prefill", "decode") for axis in ("tp", "pp", "ep", "dcp_size", "pcp_size")),
    *("prefill_dp_attention", "decode_dp_attention", "prefill_num_workers", "decode_num_workers", "num_aggregate_gpu"),
    *(
        "prefill_hw",
        "decode_hw",
        "scenario_type",
        "benchmark_type",
        "mtp",
        "kv_p2p_transfer",
        "offload_mode",
        "kv_offloading",
    ),
)
_COLUMNS = (
    *(
        "hw",
        "hardware",
        "conc",
        "model",
        "model_id",
        "infmax_model_prefix",
        "framework",
        "precision",
        "isl",
        "osl",
        "tp",
        "pp",
    ),
    *("spec_decoding", "spec_method", "tput_per_gpu", "output_tput_per_gpu", "input_tput_per_gpu", "num_gpus"),
    *(
        "num_prompts",
        "request_rate",
        "burstiness",
        "max_concurrency",
        "duration",
        "completed",
        "failed",
        "good_completed",
    ),
    *("total_input_tokens", "total_output_tokens", "request_throughput", "request_goodput", "input_throughput"),
    *("output_throughput", "total_token_throughput", "output_tput_tps", "total_tput_tps", "input_tput_tps"),
    *("duration_seconds", "num_requests_total", "num_requests_successful", "median_intvty", "avg_total_gpu_power_w"),
    *("total_gpu_energy_j", "joules_per_output_token", "power_valid"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """GPUs of a deployment: all, and those that the output is divided by; None where the record leaves it open."""

    every: int | None
    output: int | None


class InferenceX:
    """Raw results of its client, its aggregates (`agg_*.json`), lists of them, and what its dashboard serves."""

    name = "inferencex"
    about = "InferenceX (InferenceMAX): raw, agg_*.json, lists of them"
    licence = "Apache-2.0 (SemiAnalysisAI/InferenceX)"
    words = WORDS

    def read(self, path: Path) -> Iterator[Record]:
        for number, node in enumerate(json_records(path), start=1):
            yield _record(node, node.where or f"record {number}")

    def matrix(self, path: Path) -> Converted:
        """Its master configuration (`nvidia-master.yaml`, `amd-master.yaml`) as one matrix."""
        return convert(path)


def _record(node: Node, where: str) -> Record:
    if key := serving.key_of_other_unit(node, ""):
        raise node.get(key).fail("times whose keys end in _ms are vLLM's own: import it as vllm")
    metrics, raw, outcome = _metrics(node), node.has("model_id"), node.get("benchmark_outcome")
    agentic = node.has("request_metrics") or "agentic" in (_first(node, "scenario_type", "benchmark_type").text() or "")
    speculative = _first(node, "spec_decoding", "spec_method").text() or "none"
    found = serving.statistics(metrics, unit="", factor=_S, speculative=speculative != "none")
    columns = found.columns
    if agentic:  # its ITL is a mean a request, which is its TPOT
        columns = {name: value for name, value in columns.items() if not name.startswith(("gap_", "itl_"))}
    gpus = _gpus(node)
    figures = {**(serving.totals(node, columns) if raw else _totals(metrics, gpus, outcome)), **columns}
    figures |= {"user_tok_s_p50": _first(metrics, "median_intvty", "p50_intvty").positive(), **_power(metrics)}
    if not any(value for name, value in figures.items() if not name.endswith("_requests")):
        raise ForeignError(where, "it has no figure that a column holds: no latency and no throughput")
    asked = serving.load(node) if raw else serving.Load(batch=node.get("conc").count() or None)
    lengths = serving.lengths(node) if raw else (node.get("isl").count() or None, node.get("osl").count() or None)
    reason = _reason(outcome, figures)
    model = _model(node)
    precision, apart = node.get("precision").text(), bool(_truth(node.get("disagg")))
    parts = [precision, None if speculative == "none" else speculative, "disagg" if apart else None]
    return Record(
        where=where,
        model=model,
        hardware=_first(node, "hw", "hardware").text(),
        engine=node.get("framework").text(),
        recipe="-".join(part for part in parts if part) or None,
        weights=precision and (as_published(model, precision) or precision),
        gpus=gpus.every,
        tp=None if apart else _first(node, "tp", "decode_tp").count() or None,
        pp=None if apart else node.get("pp").count() or None,
        batch=asked.batch,
        rate_per_s=asked.rate_per_s,
        context_tok=lengths[0],
        output_tok=lengths[1],
        outcome=Outcome.INVALID if reason else Outcome.OK,
        valid=reason is None,
        reason=reason,
        figures=figures,
        reported=found.reported,
        conditions={**asked.conditions, **_conditions(node), "spec_decoding": speculative},
        said=_said(node, metrics) if metrics is not node else _said(node),
        left_out=(*found.left_out, *_left_out(node, metrics, figures)),
    )


def _first(node: Node, *keys: str) -> Node:
    """What stands under the first of the keys that has something, else under the last."""
    return node.get(next((key for key in keys if node.has(key)), keys[-1]))


def _truth(node: Node) -> bool | None:
    """Its workflows pass truth on as text."""
    words = {"true": True, "false": False, "": None}
    return words[node.value.lower()] if isinstance(node.value, str) and node.value.lower() in words else node.flag()


def _model(node: Node) -> str:
    """The hub id, else the prefix that InferenceX calls a family of models by."""
    return _first(node, "model_id", "model", "infmax_model_prefix").required().text() or ""


def _gpus(node: Node) -> Gpus:
    """Of a worker tp x pp x pcp GPUs, as EP and DCP share them; of prefill and decode apart, output by decode's alone.

    Its dashboard gives the same number under both roles where there are none.
    """
    prefill, decode = node.get("num_prefill_gpu").count(), node.get("num_decode_gpu").count()
    whole = _first(node, "num_aggregate_gpu", "num_gpus").count()
    if _truth(node.get("disagg")):
        return Gpus(every=prefill + decode, output=decode) if prefill and decode else Gpus(every=whole, output=None)
    if whole:
        return Gpus(every=whole, output=whole)
    if prefill and (not decode or decode == prefill):
        return Gpus(every=prefill, output=prefill)
    if prefill or decode:
        return Gpus(every=None, output=None)
    tp = node.get("tp").count()
    one = tp and tp * (node.get("pp").count() or 1) * (node.get("pcp_size").count() or 1)
    return Gpus(every=one or None, output=one or None)


def _metrics(node: Node) -> Node:
    """Where the figures are: beside the rest, in `metrics`, or by name and statistic in `request_metrics`."""
    if node.has("metrics"):
        return node.get("metrics")
    if not node.has("request_metrics"):
        return node
    nested = node.get("request_metrics")
    latency, throughput = nested.get("latency"), nested.get("throughput")
    flat = {
        f"{stat}_{name}": value
        for name in ("ttft", "tpot", "e2el", "intvty")
        if latency.has(name)
        for stat, value in latency.get(name).mapping().items()
    }
    if throughput.has("output", "total"):
        flat |= {f"{way}_tput_tps": throughput.get(way).get("tokens_per_second").value for way in ("output", "total")}
        flat["duration_seconds"] = throughput.get("duration_seconds").value
    return Node(value={**node.mapping(), **flat}, where=nested.where)


def _totals(metrics: Node, gpus: Gpus, outcome: Node) -> dict[str, Figure]:
    """Counts, and the rates of the whole deployment."""

    def rate(total: str, per_gpu: str, count: int | None) -> float | None:
        each = metrics.get(per_gpu).positive()
        return metrics.get(total).positive() or (each * count if each and count else None)

    asked, completed = metrics.get("num_requests_total").count(), metrics.get("num_requests_successful").count()
    if outcome.value is not None:
        asked, completed = outcome.get("requested").count(), outcome.get("completed").count()
    return {
        "asked_requests": asked,
        "completed_requests": completed,
        "failed_requests": None if asked is None or completed is None else max(asked - completed, 0),
        "window_s": metrics.get("duration_seconds").positive(),
        "output_tok_s": rate("output_tput_tps", "output_tput_per_gpu", gpus.output),
        "total_tok_s": rate("total_tput_tps", "tput_per_gpu", gpus.every),
    }


def _power(metrics: Node) -> dict[str, Figure]:
    """Of all GPUs; without their sum nobody says whether a figure is of one."""
    energy_j = metrics.get("total_gpu_energy_j").positive()
    if energy_j is None or metrics.get("power_valid").value in (0, False):
        return {}
    return {
        "energy_j": energy_j,
        "energy_j_per_tok": metrics.get("joules_per_output_token").positive(),
        "power_mean_w": metrics.get("avg_total_gpu_power_w").positive(),
    }


def _conditions(node: Node) -> dict[str, Said]:
    found: dict[str, Said] = {}
    for key in _TOPOLOGY:
        value = node.get(key)
        truth = isinstance(value.value, str) and value.value.lower() in ("true", "false")
        found[key] = _truth(value) if truth else value.scalar()
    return found


def _said(*nodes: Node) -> dict[str, Said]:
    """All else that is one value."""
    return {
        key: node.get(key).scalar()
        for node in nodes
        for key, value in node.mapping().items()
        if not (key in _COLUMNS or key in _TOPOLOGY or serving.is_statistic(key) or isinstance(value, list | dict))
    }


def _left_out(node: Node, metrics: Node, figures: Mapping[str, Figure]) -> tuple[str, ...]:
    parts = [key for key, value in node.mapping().items() if isinstance(value, list | dict) and value]
    sentences = [
        f"{key}: not of one value" for key in parts if key not in ("metrics", "request_metrics", "benchmark_outcome")
    ]
    if metrics.get("power_valid").value in (0, False):
        sentences.append("power: its own check calls it not valid")
    elif metrics.has("joules_per_output_token") and "energy_j_per_tok" not in figures:
        sentences.append("joules_per_output_token: whether it is of one GPU is not said")
    if metrics.has("tput_per_gpu") and figures.get("total_tok_s") is None:
        sentences.append("throughput: how many GPUs it is divided by is not said")
    return tuple(sentences)


def _reason(outcome: Node, figures: Mapping[str, Figure]) -> str | None:
    failed = outcome.value is not None and outcome.get("status").text() == "failed"
    return serving.failure(figures) or ("its own gate failed it" if failed else None)
