"""Foreign words against the catalog."""

from __future__ import annotations

from typing import Any

import pytest

from fleetbench.store.foreign.inferencex_words import WORDS
from fleetbench.store.foreign.names import Names, catalogued
from fleetbench.store.foreign.record import Axis, Record


def record(**changes: Any) -> Record:
    return Record(**{"where": "record 1", "model": "m", "hardware": None, "engine": None, **changes})


@pytest.mark.parametrize(
    ("axis", "word", "name"),
    [
        ("model", "deepseek-ai/DeepSeek-R1", "deepseek-r1"),
        ("model", "meta-llama/Llama-3.1-405B-FP8", None),
        ("hardware", "H200", "h200"),
        ("hardware", "NVIDIA H200", "h200"),
        ("hardware", "AMD Instinct MI300X", "mi300x"),
        ("hardware", "local", None),
        ("hardware", "localhost", None),
        ("hardware", "sim-h200", None),
        ("engine", "vllm", "vllm"),
        ("engine", "dynamo-vllm", None),
        ("weights", "bfloat16", "bf16"),
        ("weights", "FP8_E4M3", "fp8"),
        ("weights", "q4_0", "q4_0"),
        ("kv_k", "q4_k_m", None),
        ("activations", "q4_0", None),
        ("method", "awq", "awq"),
    ],
)
def test_a_word_is_found_exactly_or_not_at_all(axis: Axis, word: str, name: str | None) -> None:
    assert catalogued(axis, word) == name


def test_what_is_not_found_stays_as_it_is_and_is_counted() -> None:
    names = Names(words={})
    for _ in range(2):
        columns = names.columns(record(hardware="gb300", engine="atom"))
    assert (columns["hardware"], columns["engine"], columns["model"]) == ("gb300", "atom", "m")
    assert names.unmapped == {("hardware", "gb300"): 2, ("engine", "atom"): 2, ("model", "m"): 2}


def test_what_is_not_said_is_unknown_and_counted_apart() -> None:
    names = Names(words={})
    columns = names.columns(record())
    assert (columns["hardware"], columns["engine"], columns["weights"]) == ("unknown", "unknown", None)
    assert names.not_said == {"hardware": 1, "engine": 1}


def test_a_word_of_several_meanings_fills_no_column_though_the_catalog_has_it() -> None:
    names = Names(words=WORDS)
    assert names.columns(record(weights="fp4"))["weights"] is None
    assert names.unmapped["weights", "fp4"] == 1
    assert catalogued("weights", "fp4") == "fp4"


@pytest.mark.parametrize("label", ["h200-multinode", "cluster:h200-dgxc", "h200"])
def test_a_runner_label_is_its_gpu(label: str) -> None:
    assert Names(words=WORDS).columns(record(hardware=label))["hardware"] == "h200"
