"""A hundred recipes and places that are wrong: each ends in a mistake with its line, or in a refusal that says why."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from fleetbench.catalog import lookup
from fleetbench.errors import InputError
from fleetbench.matrix import expand, read
from fleetbench.matrix.types import EngineAsk, EngineInfo, ModelInfo
from fleetbench.plan.gate import Gate
from fleetbench.plan.types import Fleet, NodeKind, Refusal

EIGHT = Fleet(
    kinds={name: NodeKind(hardware=name, gpus=8, nodes=2) for name in lookup.gpu_names() if name != "local"},
    about="the fleet",
)
MISTAKE = "mistake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A recipe, where it is asked for, and what must come of it; words: that the sentence must hold."""

    recipe: object
    rule: str
    words: tuple[str, ...]
    engine: str = "vllm"
    hardware: str = "h100"
    more: str = ""


def wrong(recipe: object, rule: str, *words: str, **where: str) -> Wrong:
    return Wrong(recipe=recipe, rule=rule, words=words, **where)


def weights(name: str, **more: object) -> dict[str, object]:
    return {"name": "x", "weights": name, **more}


TYPING = [
    wrong("fp9", MISTAKE, "fp8"),
    wrong("nvpf4", MISTAKE, "nvfp4"),
    wrong("q4_k_n", MISTAKE, "q4_k_m"),
    wrong("int44", MISTAKE, "int4"),
    wrong("awqq", MISTAKE, "no known weight format"),
    wrong({"name": "x"}, MISTAKE, "weights", "missing"),
    wrong({"weights": "fp8"}, MISTAKE, "name", "missing"),
    wrong(weights("fp8", activation="fp8"), MISTAKE, "activations"),
    wrong(weights("fp8", activations="fp88"), MISTAKE, "fp8"),
    wrong(weights("fp8", kv="fp7"), MISTAKE, "fp8"),
    wrong(weights("fp8", kv={"k": "fp8", "w": "fp8"}), MISTAKE, "unknown key"),
    wrong(weights("fp8", kv={"k": "int5"}), MISTAKE, "int4"),
    wrong(weights("fp8", kv={"k": "fp8", "granularity": "per_toke"}), MISTAKE, "per_token"),
    wrong(weights("fp8", kv={"granularity": {"k": "per_head", "x": "auto"}}), MISTAKE, "unknown key"),
    wrong(weights("fp8", scales="dynamical"), MISTAKE, "dynamic"),
    wrong(weights("int4", method="gtpq"), MISTAKE, "gptq"),
    wrong(weights("int4", method="AQW"), MISTAKE, "awq"),
    wrong(weights("int4", group_size=0), MISTAKE, "at least 1"),
    wrong(weights("int4", group_size=-128), MISTAKE, "at least 1"),
    wrong(weights("int4", group_size="128"), MISTAKE, "whole number"),
    wrong(weights("int4", group_size=128.5), MISTAKE, "whole number"),
    wrong(weights("int4", protect="lm-head"), MISTAKE, "lm_head"),
    wrong(weights("int4", protect=["embeddings", "first"]), MISTAKE, "first 2"),
    wrong(weights("int4", protect="first 0"), MISTAKE, "first"),
    wrong(weights("int4", protect="first two"), MISTAKE, "first 2"),
    wrong(weights("int4", calibration={"samples": 128}), MISTAKE, "path", "missing"),
    wrong(weights("int4", calibration={"path": "a.txt", "sample": 128}), MISTAKE, "samples"),
    wrong(weights("int4", calibration={"path": "a.txt", "samples": 0}), MISTAKE, "at least 1"),
    wrong(weights("int4", calibration=""), MISTAKE, "empty"),
    wrong(weights("fp8", draft={"model": "d", "tokens": 0}), MISTAKE, "at least 1"),
    wrong(weights("fp8", draft={"method": "medussa"}), MISTAKE, "medusa"),
    wrong(weights("fp8", lora=[3]), MISTAKE, "text"),
    wrong(weights("fp8", attention="fp9"), MISTAKE, "fp8"),
    wrong(weights("auto"), MISTAKE, "no known weight format"),
    wrong(weights("kivi"), MISTAKE, "no known weight format"),
    wrong(None, MISTAKE, "empty"),
    wrong(7, MISTAKE, "mapping"),
    wrong(["fp8"], MISTAKE, "mapping"),
    wrong({"name": "a b", "weights": "fp8"}, MISTAKE, "no name"),
    wrong("fp8", MISTAKE, "h100", hardware="h10"),
    wrong("fp8", MISTAKE, "mi300x", hardware="mi30x"),
    wrong("fp8", MISTAKE, "b200", hardware="B-200"),
    wrong("fp8", MISTAKE, "vllm", engine="vlm"),
    wrong("fp8", MISTAKE, "sglang", engine="sglan"),
    wrong("fp8", MISTAKE, "no version", engine="vllm==new"),
    wrong("fp8", MISTAKE, "no version", engine="vllm==0.33.x"),
    wrong("fp8", MISTAKE, "allow", more="allow: native\n"),
    wrong("fp8", MISTAKE, "at most 4096", more="parallel: {tp: 100000}\n"),
]

CONTRADICTIONS = [
    wrong(weights("nvfp4", method="awq"), "method-format", "AWQ", "int4", "not nvfp4"),
    wrong(weights("fp8", method="awq"), "method-format", "AWQ", "not fp8"),
    wrong(weights("int8", method="awq"), "method-format", "AWQ", "not int8"),
    wrong(weights("mxfp4", method="awq"), "method-format", "AWQ"),
    wrong(weights("bf16", method="awq"), "method-format", "AWQ", "not bf16"),
    wrong(weights("bf16", method="gptq"), "method-format", "GPTQ", "not bf16"),
    wrong(weights("int4", method="imatrix"), "method-format", "not int4"),
    wrong(weights("fp8", method="imatrix"), "method-format", "not fp8"),
    wrong(weights("int4", method="smoothquant"), "method-format", "SmoothQuant", "not int4"),
    wrong(weights("nf4", method="gptq"), "method-format", "not nf4"),
    wrong(weights("int2", method="awq"), "method-format", "not int2"),
    wrong(weights("q4_k", method="gptq"), "method-format", "not q4_k"),
    wrong(weights("q4_k_m", method="awq"), "method-format", "not q4_k_m"),
    wrong(weights("exl3_4", method="gptq"), "method-format", "not exl3_4"),
    wrong(weights("nvfp4", method="bnb"), "method-format", "not nvfp4"),
    wrong(weights("int4", method="kivi"), "method-axis", "KIVI"),
    wrong(weights("fp8", method="kivi"), "method-axis", "KIVI"),
    wrong(weights("nvfp4", group_size=32), "group_size", "blocks of its own"),
    wrong(weights("mxfp4", group_size=128), "group_size", "blocks of its own"),
    wrong(weights("q4_k", group_size=64), "group_size", "blocks of its own", engine="llama-server", hardware="cpu"),
    wrong(weights("q4_k_m", group_size=64), "group_size", "blocks", engine="llama-server", hardware="rtx-4090"),
    wrong(weights("fp8", draft={"method": "model"}), "draft", "no model"),
]

HARDWARE = [
    wrong("nvfp4", "weights-emulated", "b200", "NVFP4 has no tensor cores on h100", "would emulate it"),
    wrong("nvfp4", "weights-emulated", "no tensor cores on a100-80g", "Marlin", hardware="a100-80g"),
    wrong("nvfp4", "weights-emulated", "no tensor cores on h200", hardware="h200"),
    wrong("nvfp4", "weights-emulated", "no tensor cores on mi300x", hardware="mi300x"),
    wrong("fp8", "weights-emulated", "FP8 has no tensor cores on a100-80g", hardware="a100-80g"),
    wrong("fp8", "weights-emulated", "no tensor cores on a100-40g", hardware="a100-40g"),
    wrong("mxfp4", "weights-emulated", "no tensor cores on h100"),
    wrong("nvfp4", "weights", "does not run on gaudi3", hardware="gaudi3"),
    wrong("mxfp4", "weights", "does not run on gaudi3", hardware="gaudi3"),
    wrong("int8", "weights", "no INT8 weights with INT8 activations on b200", hardware="b200"),
    wrong("fp8", "engine-hardware", "does not run on apple-m4-max", hardware="apple-m4-max"),
    wrong("fp8", "engine-hardware", "mi300x", engine="tensorrt-llm", hardware="mi300x"),
    wrong("fp8", "engine-hardware", "gaudi3", engine="tensorrt-llm", hardware="gaudi3"),
    wrong("bf16", "engine-hardware", "h100", engine="mlx"),
    wrong("bf16", "engine-hardware", "mi300x", engine="mlx", hardware="mi300x"),
    wrong("nvfp4", "weights", "does not run on h100", engine="tensorrt-llm"),
    wrong("exl3_4", "engine-hardware", "mi300x", engine="exllamav3", hardware="mi300x"),
    wrong("bf16", "no-node", "local", hardware="local"),
]

ENGINES = [
    wrong("q4_k_m", "weights", "vLLM", "q4_k_m"),
    wrong("q8_0", "weights", "q8_0"),
    wrong("exl3_4", "weights", "no weights format exl3_4"),
    wrong("ternary", "weights", "no weights format ternary"),
    wrong(weights("fp6_e2m3"), "weights-emulated", "FP6_E2M3 has no tensor cores on h100"),
    wrong(weights("fp8", kv="q8_0"), "kv", "no KV cache format q8_0"),
    wrong(weights("fp8", kv="q4_0"), "kv", "no KV cache format q4_0"),
    wrong(weights("bf16", kv="int2"), "kv", "int2"),
    wrong(weights("bf16", kv={"k": "bf16", "v": "q4_0"}), "kv", "q4_0"),
    wrong("q4_k_m", "weights", "q4_k_m", engine="tensorrt-llm"),
    wrong("exl3_4", "weights", "exl3_4", engine="sglang"),
    wrong("awq", "weights", "int4", engine="llama-server", hardware="rtx-4090"),
    wrong("fp8", "weights", "fp8", engine="llama-server", hardware="rtx-4090"),
    wrong("nf4", "weights", "nf4", engine="tensorrt-llm"),
    wrong(weights("q4_k_m", kv="fp8"), "kv", "fp8", engine="llama-server", hardware="rtx-4090"),
    wrong(weights("q4_k_m", draft="ngram"), "draft", "cannot be set", engine="llamacpp", hardware="cpu"),
    wrong(weights("q4_k_m", lora="a"), "lora", "cannot be set", engine="llamacpp", hardware="cpu"),
    wrong("fp8", "engine-version", "0.1", engine="vllm==0.1.0"),
    wrong("fp8", "engine-version", "99", engine="sglang==99.0"),
    wrong("fp8", "parallel", "no tp", engine="transformers", more="parallel: {tp: 2}\n"),
]

LAYOUT = [
    wrong("bf16", "node-gpus", "tp 16", "8", more="parallel: {tp: 16}\n"),
    wrong("bf16", "heads", "32 attention heads", "tp 3", more="parallel: {tp: 3}\n"),
    wrong("bf16", "heads", "tp 5", more="parallel: {tp: 5}\n"),
    wrong("bf16", "layers", "32 layers", "pp 64", more="parallel: {pp: 64}\n"),
    wrong("bf16", "fleet-gpus", "64 GPUs", "16", more="parallel: {tp: 8, pp: 8}\n"),
    wrong("bf16", "memory", "l4 has 24.2 GB", hardware="l4", more="load: {batch: 256, context: 4096, output: 64}\n"),
]
ALL = [*TYPING, *CONTRADICTIONS, *HARDWARE, *ENGINES, *LAYOUT]


def model() -> ModelInfo:
    shape = lookup.model_shape("llama-3.1-8b")
    assert shape is not None
    return ModelInfo(
        name="llama-3.1-8b",
        digest="d" * 64,
        max_context_tok=shape.max_context_tok,
        vocab_tok=shape.vocab_tok,
        params=shape.params,
        random_weights=False,
        suites=(),
        shape=shape,
    )


def newest(ask: EngineAsk) -> EngineInfo:
    spec = lookup.engine_spec(ask.name)
    assert spec is not None
    return EngineInfo(name=ask.name, version=ask.version or spec.known[0], toolchain="t", args=ask.args)


def matrix_text(case: Wrong) -> str:
    load = "" if "load:" in case.more else "load: {batch: 1, context: 128, output: 16}\n"
    recipes = json.dumps(["f16" if "llama" in case.engine else "bf16", case.recipe])
    reference = "f16" if "llama" in case.engine else "bf16"
    if case.recipe in ("bf16", "f16"):
        recipes = json.dumps([case.recipe])
    return (
        f"name: wrong\nanalysis: What is wrong?\nmodels: [llama-3.1-8b]\nengines: {json.dumps(case.engine)}\n"
        f"hardware: {case.hardware}\nreference: {reference}\nrecipes: {recipes}\n{load}{case.more}"
    )


def outcome(case: Wrong) -> tuple[str, str]:
    """(rule, sentence) of the refusal of the recipe's cell, or (mistake, the mistakes)."""
    try:
        matrix = read.read_text(matrix_text(case), "m.yaml")
    except InputError as error:
        return MISTAKE, str(error)
    engines = {ask: newest(ask) for ask in matrix.engines}
    cells = expand.expand(matrix, {"llama-3.1-8b": model()}, engines).cells
    gate = Gate(fleet=EIGHT, allow=matrix.allow)
    ruled = [gate.rule(cell) for cell in cells if cell.recipe.name == matrix.recipes[-1].name]
    found = next((one for one in ruled if isinstance(one, Refusal)), None)
    return ("passes", "") if found is None else (found.rule, f"{found.sentence} [{found.source}]")


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.engine}-{case.hardware}-{case.recipe}"[:90])
def test_a_wrong_recipe_is_refused_with_its_reason(case: Wrong) -> None:
    rule, sentence = outcome(case)
    assert rule == case.rule, sentence
    assert [word for word in case.words if word not in sentence] == []
    assert sentence


def test_there_are_a_hundred() -> None:
    assert len(ALL) > 100


def test_every_refusal_names_its_source() -> None:
    for case in ALL:
        rule, sentence = outcome(case)
        assert rule == MISTAKE or sentence.rstrip("]").rpartition("[")[2].strip(), case
