from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from fleetbench import resources
from fleetbench.matrix import form


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return form.json_schema()


def test_the_schema_is_a_json_schema(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_defaults_that_an_editor_offers_are_valid(schema: dict[str, Any]) -> None:
    offered = {key: entry["default"] for key, entry in schema["properties"].items() if "default" in entry}
    load = {"batch": 1, "context": 1, "output": 1}
    more = schema["$defs"]["LoadForm"]["properties"]
    load |= {key: entry["default"] for key, entry in more.items() if "default" in entry}
    quickstart = resources.root("matrices") / "smoke" / "quickstart.yaml"
    tree = yaml.safe_load(quickstart.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(tree | offered | {"load": load})


def test_every_shipped_matrix_satisfies_the_schema(schema: dict[str, Any]) -> None:
    files = sorted(resources.root("matrices").rglob("*.yaml"))
    assert files
    for file in files:
        jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"recipes": ["f16", {"name": "x", "weights": "q9"}]},
        {"load": {"batch": 0, "context": 1, "output": 1}},
        {"load": {"batch": None, "context": 1, "output": 1}},
        {"load": {"batch": 1, "context": 1, "output": 1, "warmup": -1}},
        {"load": {"batch": 1, "context": 1, "output": 1, "warmup": {"context": 1}}},
        {"load": {"batch": 1, "context": 1, "output": 1, "warmup": {"requests": 1, "context": 0}}},
        {"limits": {"launch": "soon"}},
        {"engines": ["llama.cp"]},
        {"exclude": [{"hardware": "h100"}]},
        {"repeats": None},
    ],
)
def test_an_editor_sees_what_the_reader_refuses(schema: dict[str, Any], change: dict[str, Any]) -> None:
    quickstart = resources.root("matrices") / "smoke" / "quickstart.yaml"
    tree = yaml.safe_load(quickstart.read_text(encoding="utf-8")) | change
    assert not jsonschema.Draft202012Validator(schema).is_valid(tree)


@pytest.mark.parametrize(
    "change",
    [
        {"models": "tiny", "engines": "llamacpp", "recipes": "f16"},
        {"parallel": [{"tp": 1}, {"tp": [2, 4], "pp": 2}]},
        {"recipes": ["f16", {"name": "x", "weights": "q4_k", "kv": {"k": "q8_0"}}]},
        {"load": {"rate": [2, 5.5], "arrivals": "poisson", "context": 64, "output": 8}},
        {"load": {"batch": 1, "context": 64, "output": 8, "warmup": 2}},
        {"load": {"batch": 1, "context": 64, "output": 8, "warmup": {"requests": 1, "output": 4}}},
        {"limits": {"launch": "1h30m", "trial": 90}},
        {"exclude": {"hardware": ["h100", "h200"], "batch": 4, "because": "x"}},
        {"engines": ["llama.cpp", "vllm==0.33.0", {"name": "sglang", "args": ["--enable-metrics"]}]},
        {
            "recipes": [
                "f16",
                {"name": "x", "weights": "int4", "calibration": "text.txt", "kv": {"granularity": "per_head"}},
            ]
        },
        {
            "recipes": [
                "f16",
                {"name": "x", "weights": "fp8", "draft": "ngram", "lora": "adapter", "protect": "lm_head"},
            ]
        },
        {"models": ["tiny", "org/name", {"name": "mine", "path": "x", "dummy": True}]},
    ],
)
def test_an_editor_accepts_every_way_of_writing(schema: dict[str, Any], change: dict[str, Any]) -> None:
    quickstart = resources.root("matrices") / "smoke" / "quickstart.yaml"
    tree = yaml.safe_load(quickstart.read_text(encoding="utf-8")) | change
    jsonschema.Draft202012Validator(schema).validate(tree)
    form.MatrixForm.model_validate(tree)


@pytest.mark.parametrize(
    ("written", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("2h1s", 7201), (12, 12)]
)
def test_a_duration_is_read_in_seconds(written: str | int, seconds: float) -> None:
    assert form.LimitsForm.model_validate({"launch": written}).launch == seconds


@pytest.mark.parametrize("written", ["", "m", "10", "10 m", "-1m", "1m1h", "1d", "1e3s", "nan", "10m\n"])
def test_what_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        form.LimitsForm.model_validate({"launch": written})
