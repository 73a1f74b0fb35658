"""Exports of AIPerf: the summary as JSON or CSV, and its records of requests as JSON lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fleetbench.matrix.types import Outcome
from fleetbench.store.foreign.aiperf_requests import NAMED_REQUESTS, request
from fleetbench.store.foreign.document import Node, json_records, text
from fleetbench.store.foreign.names import UNKNOWN
from fleetbench.store.foreign.record import Figure, ForeignError, Record, Said, Words
from fleetbench.store.foreign.spread import check_measured, check_unit, columns, failure, kept_beside, time_factor

_STATS = {"mean": "avg", "p50": "p50", "p90": "p90", "p99": "p99"}
_TIMES = {
    "time_to_first_token": "ttft",
    "request_latency": "e2e",
    "inter_token_latency": "tpot",
    "inter_chunk_latency": "gap",
}
"""Its inter-token latency is a mean a request, (last - first) / (n - 1): our TPOT. Its chunks are our gaps."""
_TOKENS = ("tokens/sec", "tokens/s")
_RATES = {
    "output_token_throughput": ("output_tok_s", _TOKENS),
    "total_token_throughput": ("total_tok_s", _TOKENS),
    "request_throughput": ("requests_per_s", ("requests/sec", "requests/s")),
    "goodput": ("goodput_per_s", ("requests/sec", "requests/s")),
}
_USER = ("tokens/sec/user", "tokens/s/user")
_APART = ("time_to_second_token", "time_to_first_output_token", "full_response_inter_token_latency")
_COLUMN = re.compile(r"(?P<name>.*\S) \((?P<unit>[^()]+)\)")
_OTHER_FILES = ("aggregation_type", "combined", "per_run", "confidence_level")
_BESIDE = "profile_export_aiperf.json"

_WORDS: Words = {}


class AiPerf:
    """Each number has its unit beside it, which alone says what it means."""

    name = "aiperf"
    about = "AIPerf: summaries as JSON or CSV, profile_export.jsonl"
    licence = None
    words = _WORDS

    def read(self, path: Path) -> Iterator[Record]:
        found = text(path)
        if found.lstrip().startswith("Metric,"):
            yield _record(Node(value=_of_csv(found), where=""), "record 1", _config_beside(path))
            return
        nodes = list(json_records(path))
        if nodes and nodes[0].has("metadata", "metrics"):
            yield _of_requests(nodes, _config_beside(path))
            return
        for node in nodes:
            where = node.where or "record 1"
            yield _record(node, where, node.get("input_config"))


def _record(node: Node, where: str, config: Node) -> Record:
    """A summary; `config` is of the run, or of None where it is not there."""
    if any(key in node.mapping() for key in _OTHER_FILES):
        raise node.fail("this is of several runs: import the profile_export_aiperf.json of each")
    figures, reported = _figures(node)
    check_measured(where, figures)
    asked = _asked(config)
    reason = _reason(node, figures)
    return Record(
        where=where,
        figures=figures,
        reported=reported,
        started_at=node.get("start_time").instant(),
        outcome=Outcome.INVALID if reason else Outcome.OK,
        valid=reason is None,
        reason=reason,
        said=_said(node),
        left_out=_left_out(node),
        **asked,
    )


def _figures(node: Node) -> tuple[dict[str, Figure], dict[str, Said]]:
    figures: dict[str, Figure] = {}
    reported: dict[str, Said] = {}
    for tag, name in _TIMES.items():
        if node.has(tag):
            values = node.get(tag)
            figures |= columns(values, _STATS, name=name, factor=time_factor(values.get("unit")))
            figures[f"{name}_n"] = values.get("count").count(most=2**62)
    for tag, (column, units) in _RATES.items():
        if node.has(tag):
            check_unit(node.get(tag).get("unit"), units)
            rate = node.get(tag).get("avg")
            figures[column] = rate.number() if tag == "goodput" else rate.positive()
    if node.has("output_token_throughput_per_user"):
        values = node.get("output_token_throughput_per_user")
        check_unit(values.get("unit"), _USER)
        figures |= {f"user_tok_s_{ours}": values.get(_STATS[ours]).positive() for ours in ("mean", "p50")}
    if node.has("benchmark_duration"):
        values = node.get("benchmark_duration")
        figures["window_s"] = values.get("avg").positive(time_factor(values.get("unit")) / 1000)
    for tag in _APART:
        if node.has(tag):
            values = node.get(tag)
            reported |= kept_beside(values, _STATS, name=tag, factor=time_factor(values.get("unit")))
    return {**figures, **_counts(node)}, reported


def _counts(node: Node) -> dict[str, Figure]:
    """Its request_count is of those that were answered."""
    good = node.get("request_count")
    completed = good.get("avg").count() if good.value is not None else None
    bad = node.get("error_request_count")
    failed = bad.get("avg").count() if bad.value is not None else None
    if failed is None and node.has("error_summary"):
        failed = sum(one.get("count").count() or 0 for one in node.get("error_summary").items())
    if completed is not None:
        failed = failed or 0
    return {
        "completed_requests": completed,
        "failed_requests": failed,
        "asked_requests": None if completed is None else completed + (failed or 0),
    }


def _reason(node: Node, figures: Mapping[str, Figure]) -> str | None:
    if node.get("was_cancelled").flag():
        return "it was cancelled before its end"
    return failure(figures)


def _asked(config: Node) -> dict[str, Any]:
    """Model and load by the configuration of either generation: `endpoint` and `loadgen`, or `models` and `phases`."""
    if config.value is None:
        return {"model": UNKNOWN, "hardware": None, "engine": None}
    loadgen = config.within("loadgen")
    phase = _phase(config)
    rate = (loadgen if loadgen.has("request_rate") else phase).value or {}
    load = loadgen if loadgen.has("concurrency") or loadgen.has("request_rate") else phase
    rate_per_s = load.within("request_rate" if "request_rate" in rate else "rate").positive()
    batch = load.within("concurrency").count() or None
    conditions: dict[str, Said] = {
        "endpoint_type": config.within("endpoint", "type").scalar(),
        "streaming": config.within("endpoint", "streaming").flag(),
        "max_concurrency": batch if rate_per_s is not None else None,
    }
    return {
        "model": _model(config),
        "hardware": None,
        "engine": None,
        "batch": batch if rate_per_s is None else None,
        "rate_per_s": rate_per_s,
        "context_tok": _length(config, "input_tokens", "isl"),
        "output_tok": _length(config, "output_tokens", "osl"),
        "conditions": conditions,
    }


def _model(config: Node) -> str:
    names = config.within("endpoint", "model_names")
    if not names.has() and isinstance(names.value, list) and names.items():
        return names.items()[0].text() or UNKNOWN
    models = config.within("models")
    models = models if isinstance(models.value, list) else models.within("items")
    for one in models.items():
        return (one.get("name") if isinstance(one.value, dict) else one).text() or UNKNOWN
    return UNKNOWN


def _phase(config: Node) -> Node:
    """The phase that is measured, of a list of phases or a mapping by name."""
    phases = config.within("phases")
    if isinstance(phases.value, list):
        named = [one for one in phases.items() if one.within("name").value == "profiling"]
        return named[0] if named else Node(value=None, where=phases.where)
    return phases.within("profiling")


def _length(config: Node, old: str, new: str) -> int | None:
    """A length that every request was asked to have: none where it is spread, or there are several datasets."""
    datasets = config.within("datasets")
    asked = config.within("input", "prompt", old)
    if isinstance(datasets.value, list) and len(datasets.value) == 1:
        asked = datasets.items()[0].within("prompts", new)
    if not isinstance(asked.value, dict):
        return None
    mean, spread = asked.get("mean").number(), asked.get("stddev").number()
    return int(mean) if mean and not spread and mean == int(mean) else None


def _said(node: Node) -> dict[str, Said]:
    keys = ("schema_version", "aiperf_version", "benchmark_id", "start_time", "end_time")
    said = {key: node.get(key).scalar() for key in keys}
    return {**said, **{f"run_{key}": node.within("run_info", key).scalar() for key in ("trial", "variation_label")}}


def _left_out(node: Node) -> tuple[str, ...]:
    known = {*_TIMES, *_RATES, *_APART, "output_token_throughput_per_user", "benchmark_duration", "request_count"}
    others = [
        key
        for key, value in node.mapping().items()
        if isinstance(value, dict) and "unit" in value and key not in known and key != "error_request_count"
    ]
    return (f"{len(others)} of its metrics, which no column holds",) if others else ()


def _config_beside(path: Path) -> Node:
    """The configuration in the summary that AIPerf writes into the same folder: only that names the model."""
    beside = path.with_name(path.name.replace("profile_export.jsonl", _BESIDE).replace(".csv", ".json"))
    nowhere = Node(value=None, where="")
    if beside == path or not beside.is_file():
        return nowhere
    try:
        return next(json_records(beside), nowhere).get("input_config")
    except ForeignError as error:
        raise ForeignError(f"{beside.name}, {error.where}", error.why) from error


def _of_requests(nodes: list[Node], config: Node) -> Record:
    requests = tuple(request(node) for node in nodes)
    measured = [one for one in requests if one.phase == "measure"]
    good = sum(one.outcome == "ok" for one in measured)
    cancelled = sum(one.outcome == "cancelled" for one in measured)
    figures: dict[str, Figure] = {
        "asked_requests": len(measured),
        "completed_requests": good,
        "failed_requests": len(measured) - good - cancelled,
        "cancelled_requests": cancelled,
    }
    reason = failure(figures)
    return Record(
        where="record 1",
        figures=figures,
        requests=requests,
        outcome=Outcome.INVALID if reason else Outcome.OK,
        valid=reason is None,
        reason=reason,
        **_asked(config),
    )


def _of_csv(found: str) -> dict[str, Any]:
    """The sections of a CSV as the JSON has them; what is neither of its first two sections is not read."""
    metrics: dict[str, Any] = {}
    header: list[str] = []
    for number, line in enumerate(found.splitlines(), start=1):
        fields = line.split(",")
        if not line.strip():
            header = []
        elif not header:
            header = fields
        elif header[0] == "Metric":
            if len(fields) != len(header):
                raise ForeignError(f"line {number}", f"{len(fields)} fields, where the header has {len(header)}")
            metrics |= _metric(fields, header, f"line {number}")
    return metrics


def _metric(fields: list[str], header: list[str], where: str) -> dict[str, Any]:
    match = _COLUMN.fullmatch(fields[0].strip())
    name, unit = (match["name"], match["unit"]) if match else (fields[0].strip(), "count")
    tag = NAMED_REQUESTS.get(name, name.lower().replace(" ", "_"))
    values: dict[str, Any] = {"unit": unit}
    for column, part in zip(header[1:], fields[1:], strict=True):
        number = Node(value=part.strip() or None, where=f"{where}: {column}", plain=True).scalar()
        if number is not None:
            try:
                values["avg" if column == "Value" else column] = float(str(number))
            except ValueError:
                raise ForeignError(f"{where}: {column}", f"{part[:40]!r} is no number") from None
    return {tag: values}
