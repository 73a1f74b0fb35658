"""Cells and launches for tests: small, and different only where a test says so."""

from __future__ import annotations

from fleetbench.matrix.types import (
    Cell,
    Effort,
    EngineAsk,
    EngineInfo,
    KvFormat,
    Limits,
    LoadPoint,
    Matrix,
    ModelInfo,
    Parallel,
    QualityPoint,
    QualitySpec,
    Recipe,
    Slo,
    Warmup,
)
from fleetbench.plan.types import EngineLaunch, Trial

MODEL = ModelInfo(
    name="ladder-75m",
    digest="d" * 64,
    max_context_tok=4096,
    vocab_tok=128,
    params=75_000_000,
    random_weights=True,
    suites=(),
)
ENGINE = EngineInfo(name="llamacpp", version="2026.10.11549", toolchain="gguf 1")


def plain(name: str, weights: str | None = None) -> Recipe:
    """A recipe of llama.cpp as it is resolved: everything but its weights in 16 bits."""
    return Recipe(name=name, weights=weights or name, activations="f16", kv=KvFormat(k="f16", v="f16"), method="rtn")


def cell(name: str = "f16", *, batch: int = 1, context: int = 64, recipe: Recipe | None = None) -> Cell:
    recipe = recipe or plain(name)
    return Cell(
        cell_id=f"cell-{recipe.name}-{batch}-{context}",
        model=MODEL,
        recipe=recipe,
        engine=ENGINE,
        hardware="local",
        parallel=Parallel(),
        work=LoadPoint(batch=batch, context_tok=context, output_tok=32),
        artifact_id=f"artifact-{recipe.weights}",
        seed=0,
        reference=recipe.name == "f16",
    )


def quality_cell(name: str = "f16") -> Cell:
    return Cell(
        cell_id=f"quality-{name}",
        model=MODEL,
        recipe=plain(name),
        engine=ENGINE,
        hardware="local",
        parallel=Parallel(),
        work=QualityPoint(suite="embedded", version="1", items=300),
        artifact_id=f"artifact-{name}",
        seed=0,
        reference=name == "f16",
    )


def launch(name: str, trials: int) -> EngineLaunch:
    cells = [cell(name, context=64 + index) for index in range(trials)]
    return EngineLaunch(
        launch_id=f"launch-{name}",
        role="measure",
        model=MODEL,
        recipe=cells[0].recipe,
        engine=ENGINE,
        hardware="local",
        parallel=Parallel(),
        artifact_id=cells[0].artifact_id,
        slots=1,
        slot_tok=128,
        trials=tuple(
            Trial(trial_id=f"trial-{name}-{index}", cell=one, repeat=0, role="measure")
            for index, one in enumerate(cells)
        ),
    )


def matrix(*, repeats: int = 2) -> Matrix:
    return Matrix(
        name="example",
        analysis="",
        models=(),
        engines=(EngineAsk(name="llamacpp"),),
        hardware=("local",),
        parallel=(Parallel(),),
        reference="f16",
        recipes=(),
        load=(),
        effort=Effort(requests=2, warmup=Warmup(requests=1)),
        repeats=repeats,
        seed=0,
        quality=QualitySpec(suite="embedded", items=300),
        slo=Slo(),
        limits=Limits(),
        exclude=(),
        canonical="{}",
    )
