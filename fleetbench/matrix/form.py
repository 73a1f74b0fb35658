"""The matrix file as a person writes it: keys, types and bounds, each with its description for editors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fleetbench.matrix.fields import (
    INT32,
    Activations,
    Argument,
    Attention,
    AxisCount,
    AxisKv,
    AxisRate,
    Count,
    Degree,
    EngineName,
    EngineVersion,
    FilePath,
    Hardware,
    HubId,
    Kv,
    Lone,
    Many,
    Method,
    Name,
    OneOrMany,
    Positive,
    Protected,
    Seconds,
    Sentence,
    Short,
    Suite,
    Weights,
    engine_words,
    spell_calibration,
    spell_draft,
    spell_engine,
    spell_granularity,
    spell_kv,
    spell_model,
    spell_recipe,
)
from fleetbench.matrix.types import Granularity


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class ModelForm(_Form):
    """A model: an embedded or a published one by its name, a folder in Hugging Face layout, or a hub id."""

    name: Name
    path: Annotated[FilePath | None, Field(description="a folder; config.json is enough to plan with")] = None
    hub: Annotated[HubId | None, Field(description="organisation/name on the Hugging Face hub")] = None
    revision: Annotated[Name | None, Field(description="commit, branch or tag on the hub; pinned when planned")] = None
    dummy: Annotated[bool, Field(description="random weights, made by the engine in the shape of config.json")] = False
    measure: Many[Literal["speed", "quality"]] | None = None


class EngineForm(_Form):
    """An engine, the version that is wanted of it, and arguments of its own; they never pass through a shell."""

    name: EngineName
    version: EngineVersion | None = None
    args: Annotated[list[Argument], OneOrMany()] = []


class GranularityForm(_Form):
    """What shares a scale in the cache, keys and values apart."""

    k: Granularity = "auto"
    v: Granularity = "auto"


class KvForm(_Form):
    """Formats of the attention cache, keys and values apart."""

    k: Kv = "auto"
    v: Kv = "auto"
    granularity: Annotated[GranularityForm, Short(spell_granularity)] = GranularityForm()


class CalibrationForm(_Form):
    """Sample text that a method looks at: a file, best of the product's own domain."""

    path: FilePath
    samples: Annotated[Count | None, Field(description="sequences; the tool's own if left out")] = None
    sequence: Annotated[Count | None, Field(description="tokens of each; the tool's own if left out")] = None


class DraftForm(_Form):
    """Speculative decoding: who guesses, and how far ahead."""

    method: Literal["model", "eagle", "eagle3", "medusa", "mtp", "ngram"] = "model"
    model: Annotated[
        FilePath | None, Field(description="a folder or GGUF file, or on a cluster a hub id, which its nodes fetch")
    ] = None
    tokens: Annotated[int, Field(ge=1, le=64)] = 4


class RecipeForm(_Form):
    """A named set of formats, and what makes the weights; `auto` is the engine's own choice."""

    name: Name
    weights: Weights
    activations: Activations = "auto"
    scales: Annotated[Literal["auto", "dynamic", "static"], Field(description="of the activations")] = "auto"
    kv: Annotated[KvForm, Short(spell_kv)] = KvForm()
    attention: Attention = "auto"
    method: Method = "auto"
    group_size: Count | None = None
    calibration: Annotated[CalibrationForm, Short(spell_calibration)] | None = None
    protect: Annotated[list[Protected], OneOrMany()] = []
    lora: Annotated[list[FilePath], OneOrMany()] = []
    draft: Annotated[DraftForm, Short(spell_draft)] | None = None


class ParallelForm(_Form):
    """Degrees of parallelism; lists multiply."""

    tp: Many[Degree] = [1]
    pp: Many[Degree] = [1]
    dp: Many[Degree] = [1]


class WarmupForm(_Form):
    """Requests before the measured ones, which may be shorter: no length is ever more than the load point's."""

    requests: Annotated[int, Field(ge=0, le=INT32)]
    context: Annotated[Count | None, Field(description="prompt tokens; the load point's if left out")] = None
    output: Annotated[Count | None, Field(description="output tokens; the load point's if left out")] = None


class LoadForm(_Form):
    """What is asked of a running engine; lists multiply."""

    batch: Annotated[Many[Count] | None, Field(description="requests in flight, held constant")] = None
    rate: Annotated[Many[Positive] | None, Field(description="requests started per second")] = None
    arrivals: Annotated[Literal["constant", "poisson"] | None, Field(description="only with rate")] = None
    context: Annotated[Many[Count], Field(description="prompt tokens, exact")]
    output: Annotated[Many[Count], Field(description="output tokens, exact")]
    requests: Annotated[Count, Field(description="measured requests of a trial, at least the batch")] = 8
    warmup: Annotated[WarmupForm, Lone("requests"), Field(description="requests before them")] = WarmupForm(requests=1)


class QualityForm(_Form):
    """The suite that quality is measured by; `items` of each category."""

    suite: Suite
    items: Annotated[int, Field(ge=1, description="no more than the suite has")] = 300


Drop = Annotated[float, Field(gt=0, lt=1)]


class ParityForm(_Form):
    """What a recipe may lose against the reference and still ship; shares, so 0.02 is two points."""

    margin: Annotated[Drop, Field(description="the acceptable drop of the share that is right")] = 0.02
    margins: Annotated[dict[Name, Drop], Field(description="of single categories, where it is another one")] = {}
    reference_runs: Annotated[int, Field(ge=2, le=20, description="how often the reference is asked")] = 2
    churn: Annotated[
        float, Field(ge=0, le=1, description="the least share of items that differ between two of its runs")
    ] = 0.005
    workload: Annotated[Many[Name] | None, Field(description="the categories that the product lives by")] = None


class SloForm(_Form):
    """Latencies that a recipe has to keep, milliseconds."""

    ttft_p99_ms: Positive | None = None
    itl_p99_ms: Positive | None = None


class LimitsForm(_Form):
    """When a launch or a trial is given up, how long a run may take, and what it may cost."""

    launch: Seconds = 600.0
    trial: Seconds = 900.0
    wall: Seconds | None = None
    cost_usd: Positive | None = None


class ExcludeForm(_Form):
    """Cells that are ruled out: every axis named must match, by any of its values."""

    model: Many[Name] | None = None
    recipe: Many[Name] | None = None
    weights: Many[Weights] | None = None
    activations: Many[Activations] | None = None
    kv: Many[AxisKv] | None = None
    kv_k: Many[Kv] | None = None
    kv_v: Many[Kv] | None = None
    attention: Many[Attention] | None = None
    method: Many[Method] | None = None
    engine: Many[EngineName] | None = None
    hardware: Many[Hardware] | None = None
    tp: Many[AxisCount] | None = None
    pp: Many[AxisCount] | None = None
    dp: Many[AxisCount] | None = None
    batch: Many[AxisCount] | None = None
    rate: Many[AxisRate] | None = None
    context: Many[AxisCount] | None = None
    output: Many[AxisCount] | None = None
    suite: Many[Suite] | None = None
    because: Sentence


class MatrixForm(_Form):
    """A benchmark matrix: models x recipes x engines x hardware x parallel x load."""

    name: Name
    analysis: Annotated[Sentence, Field(description="the question that this matrix answers")]
    models: Many[Annotated[ModelForm, Short(spell_model)]]
    engines: Many[Annotated[EngineForm, Short(spell_engine, engine_words)]]
    hardware: Many[Hardware] = ["local"]
    parallel: Many[ParallelForm] = [ParallelForm()]
    reference: Annotated[Name, Field(description="the recipe that speed-up and parity are relative to")]
    recipes: Many[Annotated[RecipeForm, Short(spell_recipe)]]
    load: LoadForm | None = None
    repeats: Annotated[int, Field(ge=1, le=10_000)] = 1
    seed: Annotated[int, Field(ge=0, le=2**53)] = 0
    quality: QualityForm | None = None
    parity: ParityForm = ParityForm()
    slo: SloForm = SloForm()
    limits: LimitsForm = LimitsForm()
    allow: Annotated[
        list[Literal["experimental", "emulated"]],
        OneOrMany(),
        Field(description="verdicts that run though they are not native"),
    ] = ["experimental"]
    exclude: Annotated[list[ExcludeForm], OneOrMany()] = []


FORMS: dict[tuple[str, ...], type[BaseModel]] = {
    (): MatrixForm,
    ("models",): ModelForm,
    ("recipes",): RecipeForm,
    ("recipes", "kv"): KvForm,
    ("recipes", "kv", "granularity"): GranularityForm,
    ("recipes", "calibration"): CalibrationForm,
    ("recipes", "draft"): DraftForm,
    ("engines",): EngineForm,
    ("parallel",): ParallelForm,
    ("load",): LoadForm,
    ("load", "warmup"): WarmupForm,
    ("quality",): QualityForm,
    ("parity",): ParityForm,
    ("slo",): SloForm,
    ("limits",): LimitsForm,
    ("exclude",): ExcludeForm,
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a matrix file, for editors."""
    schema = _no_null(MatrixForm.model_json_schema(mode="validation"))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "fleetbench matrix"}


def _no_null(schema: Any) -> Any:
    """A key may be left out, but not left empty: null goes from every alternative and default."""
    if isinstance(schema, list):
        return [_no_null(part) for part in schema if part != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    return {key: _no_null(part) for key, part in schema.items() if part is not None}
