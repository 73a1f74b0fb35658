"""Rules of the gate on single cells; a hundred wrong recipes are in test_wrong_recipes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetbench.catalog import lookup
from fleetbench.matrix.resolve import resolve
from fleetbench.matrix.types import Cell, EngineInfo, KvFormat, LoadPoint, ModelInfo, Parallel, Recipe
from fleetbench.plan.gate import Gate, Objection
from fleetbench.plan.types import Fleet, NodeKind, Refusal, Ruling
from tests.plan import examples

HERE = Fleet(
    kinds={"local": NodeKind(hardware="local", gpus=0, nodes=1, engines={"llamacpp": examples.ENGINE.version})},
    about="this machine",
)
NODES = Fleet(
    kinds={name: NodeKind(hardware=name, gpus=8, nodes=2) for name in ("h100", "b200", "a100-80g", "mi300x")},
    about="the fleet",
)


def ruled(cell: Cell, fleet: Fleet = HERE, *allow: str) -> Ruling | Refusal:
    return Gate(fleet=fleet, allow=allow or ("experimental",)).rule(cell)


def refused(cell: Cell, fleet: Fleet = HERE) -> Refusal:
    found = ruled(cell, fleet)
    assert isinstance(found, Refusal), found
    return found


def big(
    recipe: str = "fp8",
    *,
    hardware: str = "h100",
    parallel: Parallel | None = None,
    batch: int = 1,
    context: int = 2000,
    **changed: object,
) -> Cell:
    """Llama 3.1 70B on vLLM, a bare weight format as its recipe."""
    shape, spec = lookup.model_shape("llama-3.1-70b"), lookup.engine_spec("vllm")
    assert shape is not None
    assert spec is not None
    known = lookup.recipe_info(recipe)
    assert known is not None
    spelled = Recipe(name=recipe, **{key: value for key, value in known.spelled.items() if key != "kv"})  # type: ignore[arg-type]
    model = ModelInfo(
        name="llama-3.1-70b",
        digest="d" * 64,
        max_context_tok=shape.max_context_tok,
        vocab_tok=shape.vocab_tok,
        params=shape.params,
        random_weights=False,
        suites=(),
        shape=shape,
    )
    return replace(
        examples.cell(),
        model=model,
        recipe=resolve(replace(spelled, **changed), spec, shape.dtype),  # type: ignore[arg-type]
        engine=EngineInfo(name="vllm", version=spec.known[0], toolchain="t"),
        hardware=hardware,
        parallel=parallel or Parallel(),
        work=LoadPoint(batch=batch, context_tok=context, output_tok=48),
    )


def test_a_cell_of_the_embedded_engine_runs_natively() -> None:
    found = ruled(examples.cell("q4_k"))
    assert isinstance(found, Ruling)
    assert found.verdict == "native"


def test_an_engine_that_is_not_on_the_node_is_refused_as_such() -> None:
    engine = EngineInfo(name="vllm", version="0.33.0", toolchain="t")
    found = refused(replace(examples.cell(), engine=engine))
    assert (found.verdict, found.rule) == ("not_here", "engine-not-here")
    assert "llamacpp" in found.sentence


def test_another_version_than_the_node_has_is_refused() -> None:
    engine = replace(examples.ENGINE, version="2026.11.1")
    found = refused(replace(examples.cell(), engine=engine))
    assert (found.verdict, found.rule) == ("not_here", "engine-version")


@pytest.mark.parametrize(
    ("recipe", "rule"),
    [
        (replace(examples.plain("x"), weights="int4"), "weights"),
        (replace(examples.plain("x", "f16"), kv=KvFormat(k="f16", v="fp8")), "kv"),
        (replace(examples.plain("x", "f16"), activations="fp8"), "weights"),
        (replace(examples.plain("x", "q4_k"), method="gptq"), "method-format"),
        (replace(examples.plain("x", "f16"), attention="fp8"), "attention"),
        (replace(examples.plain("x", "f16"), lora=("adapter",)), "lora"),
    ],
)
def test_a_refusal_names_the_axis_that_cannot_be_had(recipe: Recipe, rule: str) -> None:
    found = refused(examples.cell(recipe=recipe))
    assert (found.rule, bool(found.source)) == (rule, True)


def test_fp4_on_hopper_is_refused_with_where_it_is_native_and_what_would_run() -> None:
    found = refused(big("nvfp4"), NODES)
    assert (found.verdict, found.rule) == ("emulated", "weights-emulated")
    assert "b200" in found.sentence
    assert "NVFP4 has no tensor cores on h100; vLLM would emulate it by" in found.sentence
    assert "allow: emulated" in found.sentence


def test_what_is_emulated_runs_where_the_matrix_allows_it() -> None:
    found = ruled(big("nvfp4"), NODES, "emulated")
    assert isinstance(found, Ruling)
    assert found.verdict == "emulated"


def test_fp4_on_blackwell_is_native() -> None:
    found = ruled(big("nvfp4", hardware="b200"), NODES)
    assert isinstance(found, Ruling)
    assert (found.verdict, found.kernel) == ("native", "nvfp4")


def test_int4_weights_with_an_fp8_cache_at_128_x_2k_do_not_fit_one_h100() -> None:
    kv8 = KvFormat(k="fp8", v="fp8")
    found = refused(big("int4", batch=128, kv=kv8), NODES)
    assert (found.verdict, found.rule) == ("does_not_fit", "memory")
    assert "42.9 GB KV" in found.sentence
    assert "tp 2" in found.sentence


def test_int4_weights_with_an_int4_cache_fit_one_h100() -> None:
    narrow = KvFormat(k="int4", v="int4")
    found = refused_or_ruled_by_memory(big("int4", batch=128, kv=narrow))
    assert found is None


def refused_or_ruled_by_memory(cell: Cell) -> Objection | Refusal | None:
    """The memory rule alone: vLLM has no such cache on every kind."""
    found = ruled(cell, NODES)
    return found if isinstance(found, Refusal) and found.rule == "memory" else None


def test_bf16_of_a_70b_fits_from_the_degree_on_that_is_said() -> None:
    assert "tp 2" in refused(big("bf16"), NODES).sentence
    assert isinstance(ruled(big("bf16", parallel=Parallel(tp=2)), NODES), Ruling)


def test_where_no_node_of_a_kind_is_fit_the_refusal_says_which_one_is_there_and_why_not() -> None:
    cell = big(hardware="h200")
    assert refused(cell, NODES).sentence.startswith("no node of kind h200 is joined; the fleet has h100")
    found = refused(cell, replace(NODES, unfit={"h200": "liar is mismatched (it has no GPU)", "b200": "no"}))
    assert found.sentence.startswith(
        "no node of kind h200 may be measured on: liar is mismatched (it has no GPU); the fleet has h100"
    )
    assert (found.verdict, found.rule) == ("not_here", "no-node")


FAR = Fleet(kinds={"h100": NodeKind(hardware="h100", gpus=2, nodes=4)}, about="the fleet")


def test_the_degree_that_is_advised_is_beyond_the_one_that_was_asked() -> None:
    found = refused(big("bf16", parallel=Parallel(tp=2), batch=64), NODES)
    assert (found.rule, found.sentence.split(": ")[-1]) == ("memory", "it fits from tp 4 on")
    assert isinstance(ruled(big("bf16", parallel=Parallel(tp=4), batch=64), NODES), Ruling)


def test_stages_and_replicas_stay_as_they_were_asked_in_what_is_advised() -> None:
    asked = Parallel(pp=2, dp=2)
    assert refused(big("bf16", parallel=asked, batch=256), NODES).sentence.endswith("it fits from tp 2 on")
    assert isinstance(ruled(big("bf16", parallel=replace(asked, tp=2), batch=256), NODES), Ruling)


def test_no_degree_is_advised_that_the_fleets_nodes_do_not_have() -> None:
    assert "not even one sequence fits" in refused(big("bf16"), one_gpu_nodes()).sentence
    assert "tp" not in refused(big("bf16", parallel=Parallel(tp=2), batch=64), FAR).sentence.split(": ")[-1]


def test_no_degree_is_advised_that_the_whole_fleet_has_not_gpus_for() -> None:
    few = Fleet(kinds={"h100": NodeKind(hardware="h100", gpus=4, nodes=1)}, about="the fleet")
    assert "tp" not in refused(big("bf16", parallel=Parallel(dp=4), batch=64), few).sentence.split(": ")[-1]


def one_gpu_nodes() -> Fleet:
    return Fleet(kinds={"h100": NodeKind(hardware="h100", gpus=1, nodes=8)}, about="the fleet")


def published(name: str, weights: str, engine: str = "vllm") -> Cell:
    """A catalog model on eight B200 by an engine."""
    shape, spec = lookup.model_shape(name), lookup.engine_spec(engine)
    assert shape is not None
    assert spec is not None
    cell = big(hardware="b200", parallel=Parallel(tp=8))
    return replace(
        cell,
        model=replace(cell.model, name=name, shape=shape, params=shape.params, max_context_tok=shape.max_context_tok),
        recipe=resolve(Recipe(name=weights, weights=weights), spec, shape.dtype, shape.quantized),
        engine=EngineInfo(name=engine, version=spec.known[0] if spec.known else "1", toolchain="t"),
    )


@pytest.mark.parametrize(
    ("name", "weights"),
    [("gpt-oss-120b", "fp8"), ("gpt-oss-120b", "bf16"), ("deepseek-r1", "int4"), ("deepseek-r1", "mxfp4")],
)
def test_a_model_that_is_quantized_already_is_not_run_as_something_else(name: str, weights: str) -> None:
    found = refused(published(name, weights), NODES)
    assert (found.verdict, found.rule) == ("contradictory", "published-format")
    assert f"{name} is published as " in found.sentence
    assert f"no {weights} is made of that" in found.sentence


@pytest.mark.parametrize(("name", "weights"), [("gpt-oss-120b", "mxfp4"), ("deepseek-r1", "fp8")])
def test_a_model_that_is_quantized_already_runs_as_it_was_published(name: str, weights: str) -> None:
    assert isinstance(ruled(published(name, weights), NODES), Ruling)


def test_a_server_that_runs_already_may_have_been_given_anything() -> None:
    found = ruled(published("deepseek-r1", "int4", "endpoint"), NODES)
    assert not isinstance(found, Refusal) or found.rule != "published-format"


def test_a_context_beyond_the_models_own_is_refused() -> None:
    found = refused(big(parallel=Parallel(tp=8), context=131_072), NODES)
    assert found.rule == "context"


def test_what_a_node_lacks_is_asked_last() -> None:
    lack = Objection(verdict="not_here", rule="checkpoint", sentence="nobody made it")
    gate = Gate(fleet=NODES, allow=(), lacks=lambda _: lack)
    found = gate.rule(big(parallel=Parallel(tp=2)))
    assert isinstance(found, Refusal)
    assert found.rule == "checkpoint"
    found = gate.rule(big("nvfp4"))
    assert isinstance(found, Refusal)
    assert found.rule == "weights-emulated"


TWOS = Fleet(kinds={"h100": NodeKind(hardware="h100", gpus=2, nodes=16)}, about="the fleet")


@pytest.mark.parametrize("parallel", [Parallel(tp=2, pp=4), Parallel(tp=2, dp=2), Parallel(tp=1, pp=4, dp=2)])
def test_pipelines_and_replicas_go_over_several_nodes(parallel: Parallel) -> None:
    assert isinstance(ruled(big("fp8", parallel=parallel), TWOS), Ruling)


@pytest.mark.parametrize(
    ("engine", "parallel", "verdict", "words"),
    [
        ("vllm", Parallel(tp=4), "does_not_fit", "lower tp, and raise pp"),
        ("vllm", Parallel(tp=1, pp=5), "does_not_fit", "3 nodes cannot share tp 1, pp 5, dp 1 evenly"),
        ("vllm", Parallel(tp=1, pp=3, dp=2), "does_not_fit", "evenly"),
        ("sglang", Parallel(tp=2, dp=2), "engine_cannot", "SGLang has no dp over several nodes"),
        ("tensorrt-llm", Parallel(tp=2, pp=2), "engine_cannot", "on one node alone (lower pp or dp to 2 GPUs"),
    ],
)
def test_what_does_not_go_over_several_nodes_is_refused_with_a_remedy(
    engine: str, parallel: Parallel, verdict: str, words: str
) -> None:
    spec = lookup.engine_spec(engine)
    assert spec is not None
    info = EngineInfo(name=engine, version=spec.known[0], toolchain="t")
    found = refused(replace(big("bf16", parallel=parallel), engine=info), TWOS)
    assert found.verdict == verdict, found
    assert words in found.sentence
    assert found.source
