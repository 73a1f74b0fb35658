from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from fleetbench.catalog import lookup
from fleetbench_collectors.quality import suite

ASK = """
import json, sys
from fleetbench.catalog import lookup
from fleetbench.errors import InputError
try:
    print(json.dumps(eval(sys.argv[1])))
except InputError as error:
    print(json.dumps(list(error.mistakes)))
"""


def asked(overlay: Path | None, expression: str) -> object:
    """What a process of its own finds, whose catalog has the folder beside the shipped one."""
    env = {key: value for key, value in os.environ.items() if key != lookup.OVERLAY}
    env |= {lookup.OVERLAY: str(overlay)} if overlay else {}
    done = subprocess.run([sys.executable, "-c", ASK, expression], env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def write(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return folder


def ggml_formats() -> list[str]:
    names = dict.fromkeys((*lookup.format_names("weights"), *lookup.format_names("kv")))
    return [name for name in names if (info := lookup.format_info(name)) and info.ggml]


@pytest.mark.parametrize("name", ggml_formats())
def test_stored_blocks_are_those_of_the_gguf_package(name: str) -> None:
    info = lookup.format_info(name)
    assert info is not None
    assert info.ggml is not None
    elements, size = GGML_QUANT_SIZES[GGMLQuantizationType[info.ggml]]
    assert info.block_bytes == size
    assert info.bits() == size * 8 / elements


def test_what_the_embedded_engine_runs_is_a_gguf_type() -> None:
    engine = lookup.engine_spec("llamacpp")
    assert engine is not None
    named = {name for rule in engine.rules if rule.axis in {"weights", "kv"} for name in rule.formats}
    found = [lookup.format_info(name) for name in named]
    assert found
    assert all(info is not None and (info.ggml is not None or info.mixed) for info in found)


def test_an_alias_stands_for_its_entry_whatever_the_case() -> None:
    for word, name in (("h100-sxm", "h100"), ("H100", "h100")):
        info = lookup.gpu_info(word)
        assert info is not None
        assert info.name == name
    model = lookup.published_model("meta-llama/llama-3.1-70b-instruct")
    assert model is not None
    assert model.name == "llama-3.1-70b"


def test_a_device_is_known_by_the_name_that_its_tools_print() -> None:
    found = lookup.gpu_of_device("NVIDIA H100 80GB HBM3")
    assert found is not None
    assert found.name == "h100"
    assert lookup.gpu_of_device("NVIDIA H900") is None


def test_a_model_of_random_weights_knows_no_suite() -> None:
    for name in lookup.embedded_names():
        model = lookup.embedded_model(name)
        assert model is not None
        assert bool(model.suites) != model.random_weights
        assert all(lookup.suite_info(known) for known in model.suites)


def test_the_embedded_suite_is_the_one_that_the_collectors_ask() -> None:
    info = lookup.suite_info(suite.NAME)
    assert info is not None
    assert (info.version, info.max_items) == (str(suite.VERSION), suite.MAX_ITEMS)


def test_an_unknown_name_is_none() -> None:
    assert lookup.format_info("q9_z") is None
    assert lookup.engine_spec("vlm") is None
    assert lookup.gpu_info("h900") is None
    assert lookup.embedded_model("huge") is None
    assert lookup.suite_info("mmlu") is None
    assert lookup.published_model("no/such") is None
    assert lookup.recipe_info("w1a1") is None
    assert lookup.method_info("guess") is None


@pytest.mark.parametrize(
    ("written", "meant"), [("Q4_K_M", "q4_k_m"), ("q4k", "q4_k"), ("Q8_0", "q8_0"), ("nvpf4", "nvfp4")]
)
def test_nearest_finds_what_was_probably_meant(written: str, meant: str) -> None:
    assert meant in lookup.nearest(written, lookup.format_names("weights"))


def test_nearest_offers_nothing_for_something_else() -> None:
    assert lookup.nearest("zzzzzzzz", lookup.format_names("weights")) == []


def test_one_file_adds_a_gpu(tmp_path: Path) -> None:
    gpu = {
        "title": "A card of ours",
        "vendor": "nvidia",
        "arch": "sm90",
        "aliases": ["ours-2"],
        "devices_source": "our lab",
        "memory_bytes": {"value": 48e9, "source": "our lab", "date": "2026-11-01"},
        "bandwidth_bytes_s": None,
        "flops": {},
        "power_w": None,
        "native": ["fp16"],
        "native_source": "our lab",
        "link_bytes_s": None,
        "gpus_per_node": 4,
        "price_usd_h": None,
    }
    folder = write(tmp_path, "gpus/ours.yaml", gpu)
    assert asked(folder, "lookup.gpu_info('ours-2').memory_bytes.value") == 48e9
    assert asked(folder, "'ours' in lookup.gpu_names()") is True


def test_one_file_adds_an_engine(tmp_path: Path) -> None:
    engine = """
title: Ours
versions: ">=1"
known: ["1.0"]
vendors: [nvidia]
sixteen: model
parallel: [tp]
rules:
  - {axis: weights, formats: [bf16], on: [sm90], verdict: native, source: our lab}
source: our lab
"""
    folder = write(tmp_path, "engines/ours.yaml", engine)
    assert asked(folder, "lookup.engine_spec('ours').rules[0].on") == ["sm90"]


def test_a_file_of_ones_own_changes_a_price_and_nothing_else(tmp_path: Path) -> None:
    folder = write(tmp_path, "gpus/h100.yaml", "price_usd_h: {value: 2.1, source: our contract, date: 2026-11-01}")
    price = asked(folder, "[lookup.gpu_info('h100').price_usd_h.value, lookup.gpu_info('h100').price_usd_h.date]")
    assert price == [2.1, "2026-11-01"]
    same = "lookup.gpu_info('h100').bandwidth_bytes_s.value"
    assert asked(folder, same) == asked(None, same)


def test_one_peak_of_ones_own_leaves_the_others(tmp_path: Path) -> None:
    own = {"flops": {"bf16": {"value": 7e14, "source": "our lab", "date": "2026-11-01"}}, "native": ["bf16"]}
    folder = write(tmp_path, "gpus/h100.yaml", own)
    flops = "{name: figure.value for name, figure in lookup.gpu_info('h100').flops.items()}"
    shipped = asked(None, flops)
    assert isinstance(shipped, dict)
    assert asked(folder, flops) == {**shipped, "bf16": 7e14}
    assert asked(folder, "lookup.gpu_info('h100').native") == ["bf16"]


def test_an_entry_of_a_list_file_is_merged_alike(tmp_path: Path) -> None:
    folder = write(tmp_path, "recipes.yaml", {"recipes": {"fp8": {"spelled": {"kv": "fp8"}}}})
    spelled = "dict(lookup.recipe_info('fp8').spelled)"
    shipped = asked(None, spelled)
    assert isinstance(shipped, dict)
    assert asked(folder, spelled) == {**shipped, "kv": "fp8"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gpus/h100.yaml", "flops: {bf16: {value: 2}}", "flops.bf16.source"),
        ("gpus/h100.yaml", "prize_usd_h: 2", "prize_usd_h"),
        ("gpus/h100.yaml", "price_usd_h: {value: cheap, source: x, date: y}", "price_usd_h.value"),
        ("gpus/h100.yaml", "price_usd_h: {value: 2}", "price_usd_h.source"),
        ("gpus/h100.yaml", "[1, 2]", "not a mapping"),
        ("gpus/h100.yaml", "a: [", "cannot be read"),
        ("gpus/h100.yaml", "vendor: unknown", "vendor"),
        ("gpus/h100.yaml", "bandwidth_bytes_s: {value: 0, source: me, date: 2026-11-24}", "greater than 0"),
    ],
)
def test_a_mistake_in_ones_own_file_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    mistakes = asked(write(tmp_path, name, content), "lookup.gpu_info('h100').name")
    assert isinstance(mistakes, list)
    assert said in " ".join(mistakes)
    assert "h100.yaml" in mistakes[0]


def test_versions_that_are_no_specifier_are_a_mistake(tmp_path: Path) -> None:
    overlay = write(tmp_path, "engines/vllm.yaml", {"versions": "from 0.22"})
    mistakes = asked(overlay, "lookup.engine_spec('vllm').name")
    assert isinstance(mistakes, list)
    assert "engines/vllm.yaml" in mistakes[0]
    assert "versions" in mistakes[0]
    assert "specifier" in mistakes[0]


@pytest.mark.parametrize("content", ["recipes: [1]", "recipes: {mine: 1}"])
def test_entries_of_ones_own_that_are_no_mappings_are_named(tmp_path: Path, content: str) -> None:
    mistakes = asked(write(tmp_path, "recipes.yaml", content), "lookup.recipe_names()")
    assert isinstance(mistakes, list)
    assert "recipes.yaml: recipes: is not a mapping" in mistakes[0]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    mistakes = asked(tmp_path / "none", "lookup.gpu_info('h100').name")
    assert isinstance(mistakes, list)
    assert "FLEETBENCH_CATALOG" in mistakes[0]


def test_the_shipped_catalog_is_whole() -> None:
    """Every file is read by its schema, and every name in it is known."""
    assert all(lookup.gpu_info(name) for name in lookup.gpu_names())
    assert all(lookup.engine_spec(name) for name in lookup.engine_names())
    assert all(lookup.model_shape(name) for name in lookup.published_names())
    assert all(lookup.method_info(name) for name in lookup.method_names())
    for name in lookup.gpu_names():
        info = lookup.gpu_info(name)
        assert info is not None
        assert {lookup.format_info(unit) is not None for unit in (*info.native, *info.flops)} == {True}, name
