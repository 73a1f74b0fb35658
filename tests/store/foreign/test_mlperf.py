"""MLPerf's logs of LoadGen and summaries of a round."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fleetbench.matrix.types import Outcome
from fleetbench.store.foreign.mlperf import MlPerf
from fleetbench.store.foreign.names import Names
from fleetbench.store.foreign.record import ForeignError, Record
from tests.store.foreign.files import DATA, only, records, written

LOG = "mlperf/server_mi325x.txt"
ROUND = "mlperf/summary_results-v4.1.json"
SYSTEM = {
    "system_name": "8x H200",
    "accelerator_model_name": "NVIDIA H200-SXM-141GB",
    "accelerators_per_node": "8",
    "number_of_nodes": "2",
    "framework": "vLLM 0.9.1, PyTorch 2.7.0",
}


def log(folder: Path, old: str = "", new: str = "") -> Path:
    return written(folder, (DATA / LOG).read_text().replace(old, new), "mlperf_log_summary.txt")


def submission(folder: Path, system: object = SYSTEM) -> Path:
    run = folder / "closed/X/results/H200x16/llama2-70b-99/Server/performance/run_1"
    run.mkdir(parents=True)
    (folder / "closed/X/systems").mkdir()
    written(folder / "closed/X/systems", system, "H200x16.json")
    return log(run)


def columns(record: Record) -> dict[str, str | None]:
    return Names(words=MlPerf().words).columns(record)


def test_nanoseconds_become_milliseconds() -> None:
    figures = only(MlPerf(), DATA / LOG).figures
    assert figures["ttft_mean_ms"] == pytest.approx(963.332124)
    assert figures["ttft_p99_ms"] == pytest.approx(1760.966679)
    assert figures["tpot_p50_ms"] == pytest.approx(132.613828)
    assert figures["e2e_p90_ms"] == pytest.approx(68033.586908)
    assert (figures["output_tok_s"], figures["requests_per_s"]) == (29522.56, 99.86)


def test_a_server_run_is_an_open_loop_within_its_limits() -> None:
    record = only(MlPerf(), DATA / LOG)
    assert (record.rate_per_s, record.batch) == (104.0, None)
    assert record.conditions["scenario"] == "Server"
    assert record.conditions["ttft_latency (ns)"] == "2000000000"
    assert (record.valid, record.outcome) == (True, Outcome.OK)


def test_invalid_says_what_was_not_satisfied(tmp_path: Path) -> None:
    text = (DATA / LOG).read_text().replace("Result is : VALID", "Result is : INVALID")
    record = only(
        MlPerf(), written(tmp_path, text.replace("constraints satisfied : Yes", "constraints satisfied : NO"))
    )
    assert record.outcome is Outcome.INVALID
    assert record.reason == "MLPerf calls it INVALID: Performance constraints satisfied"


def test_the_folders_of_a_submission_say_model_and_system(tmp_path: Path) -> None:
    record = only(MlPerf(), submission(tmp_path))
    named = columns(record)
    assert (named["model"], named["hardware"], named["engine"]) == ("llama-2-70b", "h200", "vllm")
    assert (record.engine_version, record.gpus) == ("0.9.1", 16)


def test_a_log_by_itself_says_neither() -> None:
    record = only(MlPerf(), DATA / LOG)
    assert (record.model, record.hardware, record.engine) == ("unknown", None, None)


def test_a_broken_description_of_a_system_is_named(tmp_path: Path) -> None:
    with pytest.raises(ForeignError, match=r"systems/H200x16\.json"):
        records(MlPerf(), submission(tmp_path, "{"))


def test_a_round_gives_a_record_for_each_result_in_tokens() -> None:
    found = records(MlPerf(), DATA / ROUND)
    assert [record.conditions["scenario"] for record in found] == ["Server", "Offline"]
    assert [record.figures["output_tok_s"] for record in found] == [21028.2, 23514.8]
    assert [len(record.left_out) for record in found] == [1, 0]
    named = columns(found[0])
    assert (named["model"], named["hardware"], named["engine"]) == ("llama-2-70b", "mi300x", "vllm")
    assert (found[0].engine_version, found[0].gpus, found[0].recipe) == ("0.4.3+rocm614", 8, "fp8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Result is : VALID\n", "", "Result is: it is missing"),
        ("Result is : VALID", "Result is : MAYBE", "VALID or INVALID"),
        ("Mode     : PerformanceOnly", "Mode     : AccuracyOnly", "measures no speed"),
        (": 963332124", ": fast", "'fast' is no number"),
        ("MLPerf Results Summary", "Results", "no summary of LoadGen"),
        ("Scenario : Server\n", "", "Scenario: it is missing"),
    ],
)
def test_what_is_wrong_in_a_log_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ForeignError, match=message):
        records(MlPerf(), log(tmp_path, old, new))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Performance_Units": None}, "record 1: Performance_Units: it is missing"),
        ({"Performance_Units": "Samples/s"}, "none of its 1 results"),
        ({"Performance_Result": "many"}, "record 1: Performance_Result: this is text"),
        ({"Performance_Result": 0}, "0 tokens a second"),
        ({"Model": None, "UsedModel": None}, "UsedModel: it is missing"),
    ],
)
def test_what_is_wrong_in_a_round_names_the_record(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    row = json.loads((DATA / ROUND).read_text())[0] | given
    with pytest.raises(ForeignError) as caught:
        records(MlPerf(), written(tmp_path, [row]))
    assert re.search(message, str(caught.value)), str(caught.value)


def test_errors_of_the_submissions_check_make_it_not_valid(tmp_path: Path) -> None:
    row = json.loads((DATA / ROUND).read_text())[0] | {"errors": 2}
    assert only(MlPerf(), written(tmp_path, [row])).reason == "the check of the submission counts 2 errors"
