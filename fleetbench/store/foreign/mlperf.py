"""MLPerf Inference: LoadGen's mlperf_log_summary.txt, and the summary_results.json of a round."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fleetbench.matrix.types import Outcome
from fleetbench.store.foreign.document import Node, json_file, json_records, text
from fleetbench.store.foreign.mlperf_words import WORDS
from fleetbench.store.foreign.names import UNKNOWN, as_published, catalogued
from fleetbench.store.foreign.record import Figure, ForeignError, Record, Said

_MS = 1e-6
_TITLE = "MLPerf Results Summary"
_LINE = re.compile(r"\s*(?P<key>[^:]+?)\s*:\s*(?P<value>.*?)\s*")
_PERCENTILES = {"50.00": "p50", "90.00": "p90", "99.00": "p99"}
_LATENCIES = {
    "ttft": ("Mean First Token latency (ns)", "{} percentile first token latency (ns)"),
    "tpot": ("Mean Time to Output Token (ns)", "{} percentile time to output token (ns)"),
    "e2e": ("Mean latency (ns)", "{} percentile latency (ns)"),
}
"""Its time to output token is (latency - first token) / (n - 1): our TPOT."""
_TOKENS = ("Completed tokens per second", "Tokens per second")
_SAMPLES = ("Completed samples per second", "Samples per second")
_CONDITIONS = ("ttft_latency (ns)", "tpot_latency (ns)", "target_latency (ns)", "performance_sample_count")
_SAID = ("SUT name", "Scheduled samples per second", "min_duration (ms)", "min_query_count", "target_qps")
_OPEN_LOOP = ("Server", "Interactive")
_COUNT = re.compile(r"[1-9][0-9]{0,5}")
_ROW_SAID = ("ID", "Submitter", "Availability", "Suite", "System", "Platform", "Processor", "Software", "Accuracy")
_ROW_SAID_TOO = ("operating_system", "Notes", "Location", "version")


class MlPerf:
    """A log is of one run; of a round's summary, the rows in tokens a second are taken."""

    name = "mlperf"
    about = "MLPerf: mlperf_log_summary.txt, summary_results.json"
    licence = None
    words = WORDS

    def read(self, path: Path) -> Iterator[Record]:
        found = text(path)
        if _TITLE in found:
            yield _of_log(found, path)
        elif found.lstrip().startswith(("[", "{")):
            yield from _of_summary(path)
        else:
            raise ForeignError("line 1", f"this is no summary of LoadGen: it has no `{_TITLE}`")


def _of_log(found: str, path: Path) -> Record:
    values = _values(found)
    if values.get("Mode").value not in ("PerformanceOnly", "SubmissionRun", "Performance", None):
        raise values.get("Mode").fail(f"{values.get('Mode').value[:40]} measures no speed: import the performance run")
    result = values.get("Result is").required().text()
    if result not in ("VALID", "INVALID"):
        raise values.get("Result is").fail(f"{str(result)[:40]!r}, where VALID or INVALID should be")
    scenario = values.get("Scenario").required().text() or ""
    figures = _figures(values)
    if not any(figures.values()):
        raise ForeignError("", "it has no figure that a column holds: no latency and no throughput")
    unmet = [key for key, value in values.mapping().items() if key.endswith("satisfied") and value.upper() == "NO"]
    reason = None if result == "VALID" else f"MLPerf calls it INVALID: {'; '.join(unmet) or 'it does not say why'}"
    served, said = _laid_out(path.absolute())
    return Record(
        where="record 1",
        rate_per_s=values.get("target_qps").positive() if scenario in _OPEN_LOOP else None,
        outcome=Outcome.OK if reason is None else Outcome.INVALID,
        valid=reason is None,
        reason=reason,
        figures=figures,
        conditions={"scenario": scenario, **{key: values.get(key).value for key in _CONDITIONS}},
        said={**{key: values.get(key).value for key in _SAID}, **said},
        **served,
    )


def _values(found: str) -> Node:
    """`key : value` lines, the first of each key: LoadGen repeats its result among the additional statistics."""
    values: dict[str, str] = {}
    for line in found[found.index(_TITLE) :].splitlines():
        if match := _LINE.fullmatch(line):
            values.setdefault(match["key"], match["value"])
    return Node(value=values, where="", plain=True)


def _figures(values: Node) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for name, (mean, percentile) in _LATENCIES.items():
        figures[f"{name}_mean_ms"] = values.get(mean).positive(_MS)
        for number, ours in _PERCENTILES.items():
            figures[f"{name}_{ours}_ms"] = values.get(percentile.format(number)).positive(_MS)
    for column, keys in (("output_tok_s", _TOKENS), ("requests_per_s", _SAMPLES)):
        figures[column] = next((values.get(key).positive() for key in keys if values.has(key)), None)
    return figures


def _laid_out(path: Path) -> tuple[dict[str, Any], dict[str, Said]]:
    """Model and system by a submission's folders: results/SYSTEM/MODEL/SCENARIO/..., systems/SYSTEM.json."""
    parts = path.parts
    at = len(parts) - 1 - parts[::-1].index("results") if "results" in parts else None
    if at is None or len(parts) < at + 5:
        return {"model": UNKNOWN, "hardware": None, "engine": None}, {}
    system, model = parts[at + 1], parts[at + 2]
    described = Path(*parts[:at], "systems", f"{system}.json")
    if not described.is_file():
        return {"model": model, "hardware": None, "engine": None}, {"Platform": system}
    try:
        node = json_file(described)
        served = _served(
            model,
            hardware=node.get("accelerator_model_name").text(),
            software=node.get("framework").text(),
            each=node.get("accelerators_per_node"),
            nodes=node.get("number_of_nodes"),
        )
    except ForeignError as error:
        raise ForeignError(f"systems/{described.name}, {error.where}", error.why) from error
    return served, {"Platform": system, "System": node.get("system_name").scalar()}


def _served(model: str, *, hardware: str | None, software: str | None, each: Node, nodes: Node) -> dict[str, Any]:
    engine, version = _engine(software or "")
    counts = [_whole(each), _whole(nodes) or 1]
    return {
        "model": model,
        "hardware": hardware,
        "engine": engine,
        "engine_version": version,
        "gpus": None if counts[0] is None else counts[0] * (counts[1] or 1),
    }


def _whole(node: Node) -> int | None:
    """A count; a system's description has it as text, which may say `N/A`."""
    if isinstance(node.value, str):
        return int(node.value) if _COUNT.fullmatch(node.value.strip()) else None
    return node.count() or None


def _engine(software: str) -> tuple[str | None, str | None]:
    """The one part of the software's list that the catalog knows as an engine, and its version."""
    parts = [part.strip().split(" ", 1) for part in software.split(",") if part.strip()]
    known = [part for part in parts if catalogued("engine", part[0])]
    if len(known) != 1:
        return None, None
    return known[0][0], known[0][1].strip() if len(known[0]) > 1 else None


def _of_summary(path: Path) -> Iterator[Record]:
    left_out: dict[str, int] = {}
    rows: list[tuple[Node, str]] = []
    for number, node in enumerate(json_records(path), start=1):
        unit = node.get("Performance_Units").required().text() or ""
        if unit.lower() == "tokens/s":
            rows.append((node, node.where or f"record {number}"))
        else:
            why = f"results in {unit}: not of generated text, or without its tokens"
            left_out[why] = left_out.get(why, 0) + 1
    if not rows and left_out:
        raise ForeignError("", f"none of its {sum(left_out.values())} results is in tokens a second")
    for index, (node, where) in enumerate(rows):
        sentences = tuple(why for why, count in left_out.items() for _ in range(count)) if index == 0 else ()
        yield _of_row(node, where, sentences)


def _of_row(node: Node, where: str, left_out: tuple[str, ...]) -> Record:
    model = node.get("Model" if node.has("Model") else "UsedModel").required().text() or UNKNOWN
    precision = node.get("weight_data_types").text()
    figures: dict[str, Figure] = {"output_tok_s": node.get("Performance_Result").required().positive()}
    if figures["output_tok_s"] is None:
        raise node.get("Performance_Result").fail("0 tokens a second is no result")
    errors = node.get("errors").count() or 0
    meant = WORDS["model"].get(model, model) or model
    return Record(
        where=where,
        recipe=precision,
        weights=precision and (as_published(meant, precision) or precision),
        outcome=Outcome.INVALID if errors else Outcome.OK,
        valid=not errors,
        reason=f"the check of the submission counts {errors} errors" if errors else None,
        figures=figures,
        conditions={
            "scenario": node.get("Scenario").required().text(),
            "category": node.get("Category").scalar(),
            "nodes": node.get("Nodes").scalar(),
            "benchmark": model,
        },
        said={key: node.get(key).scalar() for key in (*_ROW_SAID, *_ROW_SAID_TOO)},
        reported=_power(node),
        left_out=left_out,
        **_served(
            model,
            hardware=node.get("Accelerator").text(),
            software=node.get("Software").text(),
            each=node.get("a#"),
            nodes=node.get("Nodes"),
        ),
    )


def _power(node: Node) -> Mapping[str, Said]:
    """What the whole system draws at the wall: not the accelerators' power, which our column is."""
    if node.get("has_power").flag() and node.get("Power_Units").value in ("Watts", "W"):
        return {"system_power_w": node.get("Power_Result").positive()}
    return {}
