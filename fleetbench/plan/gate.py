"""What can run where: every refusal names its rule, says why in a sentence, and whose word that is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from fleetbench.catalog import lookup
from fleetbench.catalog.types import Axis, EngineSpec, GpuInfo, MethodInfo
from fleetbench.catalog.types import Verdict as Runs
from fleetbench.matrix.types import Cell, QualityPoint, Recipe
from fleetbench.plan import memory, room
from fleetbench.plan.support import Support, in_versions, support
from fleetbench.plan.types import Fleet, Refusal, Ruling, Verdict, sequence_tok

HERE = "the rules of fleetbench's plan"
"""The source of a rule that no document is needed for."""
_FACTORS = ((10**9, "GB"), (10**6, "MB"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """One reason against a cell."""

    verdict: Verdict
    rule: str
    sentence: str
    source: str = HERE


Lacks = Callable[[Cell], Objection | None]
"""What the node that would run a cell lacks: an engine, a checkpoint's maker, a flag of the installed version."""


@dataclass(slots=True, kw_only=True)
class Gate:
    """Rules on cells for a fleet; what depends on the engine's start alone is worked out once for all of its loads.

    allow: verdicts that run though they are not native.
    """

    fleet: Fleet
    allow: Collection[str]
    lacks: Lacks | None = None
    _last: tuple[object, ...] | None = None
    _ruled: Ruling | Objection | None = None
    _needed: memory.Demand | None = None
    _usable_bytes: int | None = None
    _higher: dict[int, memory.Demand] | None = None

    def rule(self, cell: Cell) -> Ruling | Refusal:
        """How the cell runs, or the first rule that refuses it."""
        start = (cell.model, cell.recipe, cell.engine, cell.hardware, cell.parallel)
        if self._last is None or any(one is not other for one, other in zip(start, self._last, strict=True)):
            self._last, self._ruled = start, self.rule_start(cell)
            self._room(cell)
        ruled = self._ruled
        found = ruled if isinstance(ruled, Objection) else self._of_work(cell)
        if found is not None:
            return Refusal(
                cell=cell, verdict=found.verdict, rule=found.rule, sentence=found.sentence, source=found.source
            )
        assert isinstance(ruled, Ruling)  # noqa: S101 - the other case returned above
        return ruled

    def _room(self, cell: Cell) -> None:
        """What the start asks of a GPU, where its memory and the model's shape are known."""
        self._needed = self._usable_bytes = self._higher = None
        if not isinstance(self._ruled, Objection):
            self._needed, self._usable_bytes = room.cell_demand(cell)

    def rule_start(self, cell: Cell) -> Ruling | Objection:
        """How its engine would be started, whatever load follows."""
        spec, gpu = lookup.engine_spec(cell.engine.name), lookup.gpu_info(cell.hardware)
        if spec is None or gpu is None:
            what = f"engine {cell.engine.name}" if spec is None else f"hardware {cell.hardware}"
            return Objection(verdict="engine_cannot", rule="unknown", sentence=f"no {what} is known")
        for objection in (
            *_of_place(cell, spec, gpu, self.fleet),
            *_of_recipe(cell.recipe, spec),
            *_of_published(cell, spec),
        ):
            return objection
        supports = list(_supports(cell, spec, gpu))
        for rule, axis_support in supports:
            against = self._of_support(rule, axis_support)
            if against is not None:
                return against
        for objection in _of_layout(cell, spec, self.fleet):
            return objection
        lacking = self.lacks(cell) if self.lacks else None
        return lacking or _ruling([found for _, found in supports])

    def _of_work(self, cell: Cell) -> Objection | None:
        """What one load asks: a context that the model has, and memory."""
        work = cell.work
        if isinstance(work, QualityPoint):
            asked, batch = sequence_tok(cell), 0
        else:
            asked, batch = work.context_tok + work.output_tok, room.replica_batch(work.batch or 1, cell.parallel)
        limit = cell.model.max_context_tok
        if asked > limit:
            sentence = (
                f"{asked} tokens a sequence are asked, {cell.model.name} holds {limit}: shorten context or output"
            )
            return Objection(verdict="does_not_fit", rule="context", sentence=sentence)
        usable, needed = self._usable_bytes, self._needed
        if usable is None or needed is None or not batch or needed.total_bytes(batch, asked) <= usable:
            return None
        return self._too_much(cell, needed, batch, asked, usable)

    def _too_much(self, cell: Cell, needed: memory.Demand, batch: int, context_tok: int, usable: int) -> Objection:
        gpu = lookup.gpu_info(cell.hardware)
        has = gpu.memory_bytes if gpu else None
        terms = needed.terms(batch, context_tok)
        parts = " + ".join(
            f"{_size(size)} {word}"
            for size, word in zip(terms, ("weights", "KV", "activations", "overhead"), strict=True)
        )
        have = f"{_size(int(has.value) if has else usable)}, of which an engine fills {_size(usable)}"
        if self._higher is None:
            self._higher = _higher(cell, self.fleet)
        if smallest := room.least(self._higher, usable, batch, context_tok):
            remedy = f"it fits from tp {smallest} on"
        else:
            most = room.most_sequences(needed, usable, context_tok) * cell.parallel.dp
            remedy = f"at most batch {most} fits" if most else "not even one sequence fits"
        return Objection(
            verdict="does_not_fit",
            rule="memory",
            sentence=f"{parts} are {_size(sum(terms))} a GPU, {cell.hardware} has {have}: {remedy}",
            source=has.source if has else HERE,
        )

    def _of_support(self, rule: str, found: Support) -> Objection | None:
        if found.rule is None:
            verdict: Verdict = "hardware_cannot" if found.lack == "hardware" else "engine_cannot"
            return Objection(verdict=verdict, rule=rule, sentence=found.sentence, source=found.source)
        verdict = found.rule.verdict
        if verdict == "native" or verdict in self.allow:
            return None
        remedy = f"add `allow: {verdict}` to the matrix to run it all the same"
        return Objection(
            verdict=verdict, rule=f"{rule}-{verdict}", sentence=f"{found.sentence}: {remedy}", source=found.source
        )


def _higher(cell: Cell, fleet: Fleet) -> dict[int, memory.Demand]:
    """What a start would ask at the higher tensor-parallel degrees that its engine and the fleet's nodes have."""
    spec, gpu, shape = lookup.engine_spec(cell.engine.name), lookup.gpu_info(cell.hardware), cell.model.shape
    if spec is None or gpu is None or shape is None or "tp" not in spec.parallel:
        return {}
    kind, parallel = fleet.kinds[cell.hardware], cell.parallel
    most = min(kind.gpus, kind.gpus * kind.nodes // (parallel.pp * parallel.dp))
    found = room.degrees(shape, cell.recipe, gpu, parallel, most=most)
    return {tp: asked for tp, asked in found.items() if parallel.tp < tp <= most}


def _ruling(supports: list[Support]) -> Ruling:
    """The weakest verdict of all axes, and the kernel of the weights."""
    order: tuple[Runs, ...] = ("native", "experimental", "emulated")
    rules = [found.rule for found in supports if found.rule is not None]
    weakest: Runs = max((rule.verdict for rule in rules), key=order.index, default="native")
    worst = next((found for found in supports if found.rule and found.rule.verdict == weakest), None)
    return Ruling(
        verdict=weakest,
        kernel=rules[0].kernel if rules else None,
        sentence=worst.sentence if worst else "",
        source=worst.source if worst else "",
    )


def _of_place(cell: Cell, spec: EngineSpec, gpu: GpuInfo, fleet: Fleet) -> Iterator[Objection]:
    """Whether such an engine and such nodes are there at all."""
    kind = fleet.kinds.get(cell.hardware)
    if kind is None:
        have = ", ".join(fleet.kinds) or "nothing"
        unfit = fleet.unfit.get(cell.hardware)
        lack = "is joined" if unfit is None else f"may be measured on: {unfit}"
        sentence = f"no node of kind {cell.hardware} {lack}; {fleet.about} has {have}"
        yield Objection(verdict="not_here", rule="no-node", sentence=sentence)
        return
    if not in_versions(spec, cell.engine.version):
        near = ", ".join(spec.known[:5])
        sentence = f"the catalog knows {spec.title} {spec.versions}, not {cell.engine.version} (looked at: {near})"
        yield Objection(verdict="engine_cannot", rule="engine-version", sentence=sentence, source=spec.source)
    if kind.engines is not None and cell.engine.name not in kind.engines:
        have = ", ".join(f"{name} {version}" for name, version in kind.engines.items()) or "no engine"
        sentence = f"{spec.title} is not on the nodes of kind {cell.hardware}, which have {have}"
        yield Objection(verdict="not_here", rule="engine-not-here", sentence=sentence)
    elif kind.engines is not None and _public(kind.engines[cell.engine.name]) != _public(cell.engine.version):
        have = kind.engines[cell.engine.name]
        sentence = (
            f"{spec.title} {cell.engine.version} is planned with, the nodes of kind {cell.hardware} have {have} "
            f"(name that one too: {cell.engine.name}=={have})"
        )
        yield Objection(verdict="not_here", rule="engine-version", sentence=sentence)
    if spec.vendors and gpu.vendor not in spec.vendors:
        sentence = f"{spec.title} does not run on {cell.hardware}: it has {', '.join(spec.vendors)}, not {gpu.vendor}"
        yield Objection(verdict="engine_cannot", rule="engine-hardware", sentence=sentence, source=spec.source)


def _of_recipe(recipe: Recipe, spec: EngineSpec) -> Iterator[Objection]:
    """What contradicts itself, and what this engine has no say in."""
    method = lookup.method_info(recipe.method)
    if method is not None and method.weights and recipe.weights not in method.weights:
        yield _contradiction("method-format", _made_by(recipe, method), method.source)
    if method is not None and method.axes and "weights" not in method.axes:
        why = f"{method.title} acts on {' and '.join(method.axes)}, it makes no weights (name what makes them)"
        yield _contradiction("method-axis", why, method.source)
    if recipe.group_size is not None and _has_own_block(recipe.weights):
        why = f"{recipe.weights} has blocks of its own: group_size {recipe.group_size} cannot be set (remove it)"
        yield _contradiction("group_size", why, HERE)
    if recipe.draft is not None and recipe.draft.method == "model" and recipe.draft.model is None:
        yield _contradiction("draft", "draft names no model that guesses (add model, or method: ngram)", HERE)
    for key, asked in (
        ("method", recipe.method not in {"auto", "rtn"}),
        ("calibration", recipe.calibration is not None),
        ("protect", bool(recipe.protect)),
        ("lora", bool(recipe.lora)),
        ("draft", recipe.draft is not None),
    ):
        if asked and key not in spec.settable:
            sentence = f"{key} cannot be set for {spec.title}; remove it from recipe {recipe.name}"
            yield Objection(verdict="engine_cannot", rule=key, sentence=sentence, source=spec.source)


def _of_published(cell: Cell, spec: EngineSpec) -> Iterator[Objection]:
    """What is asked of a checkpoint that its publisher has quantized: it stays as it is, whoever serves it.

    An engine without rules runs already and is asked whatever it was given.
    """
    published = cell.model.shape.quantized if cell.model.shape else None
    if published in {None, cell.recipe.weights} or not spec.rules or published not in lookup.format_names("weights"):
        return
    why = f"{cell.model.name} is published as {published}: no {cell.recipe.weights} is made of that"
    yield _contradiction("published-format", f"{why} (ask for {published}, or give a 16-bit checkpoint)", HERE)


def _contradiction(rule: str, sentence: str, source: str) -> Objection:
    return Objection(verdict="contradictory", rule=rule, sentence=sentence, source=source)


def _made_by(recipe: Recipe, method: MethodInfo) -> str:
    makes = ", ".join(method.weights)
    others = [
        name
        for name in lookup.method_names()
        if (info := lookup.method_info(name)) and recipe.weights in info.weights and "weights" in info.axes
    ]
    instead = f"; {recipe.weights} is made by {', '.join(others)}" if others else ""
    return f"{method.title} makes {makes}, not {recipe.weights}{instead}"


def _has_own_block(weights: str) -> bool:
    form = lookup.format_info(weights)
    return form is not None and (form.block is not None or form.mixed)


def _supports(cell: Cell, spec: EngineSpec, gpu: GpuInfo) -> Iterator[tuple[str, Support]]:
    recipe = cell.recipe
    axes: list[tuple[Axis, str]] = [("weights", recipe.weights), ("kv", recipe.kv.k)]
    if recipe.kv.v != recipe.kv.k:
        axes.append(("kv", recipe.kv.v))
    if recipe.attention != "auto":
        axes.append(("attention", recipe.attention))
    for axis, name in axes if spec.rules else ():
        yield (
            axis,
            support(
                spec=spec,
                version=cell.engine.version,
                gpu=gpu,
                axis=axis,
                name=name,
                recipe=recipe,
                model=cell.model,
            ),
        )


def _of_layout(cell: Cell, spec: EngineSpec, fleet: Fleet) -> Iterator[Objection]:
    """Adapters, degrees of parallelism, and what they ask of nodes and heads."""
    recipe, parallel, shape = cell.recipe, cell.parallel, cell.model.shape
    if recipe.lora and spec.lora is not None and recipe.weights not in spec.lora:
        sentence = (
            f"{spec.title} serves LoRA adapters on {', '.join(spec.lora) or 'no'} weights, not on {recipe.weights}"
        )
        yield Objection(verdict="engine_cannot", rule="lora", sentence=sentence, source=spec.source)
    for name in ("tp", "pp", "dp"):
        degree = getattr(parallel, name)
        if degree > 1 and name not in spec.parallel:
            sentence = f"{spec.title} on {cell.hardware} has no {name}: leave it at 1, not {degree}"
            yield Objection(verdict="engine_cannot", rule="parallel", sentence=sentence, source=spec.source)
    if shape is not None and parallel.pp > len(shape.layers):
        sentence = f"{len(shape.layers)} layers of {cell.model.name} cannot be shared by pp {parallel.pp}"
        yield Objection(verdict="does_not_fit", rule="layers", sentence=sentence)
    per_node = fleet.kinds[cell.hardware].gpus
    if parallel.tp > max(per_node, 1):
        sentence = f"tp {parallel.tp} needs {parallel.tp} GPUs in one node; nodes of {cell.hardware} have {per_node}"
        yield Objection(verdict="does_not_fit", rule="node-gpus", sentence=f"{sentence}: lower tp, and raise pp")
    total = per_node * fleet.kinds[cell.hardware].nodes
    if parallel.gpus > max(total, 1):
        sentence = f"{parallel.gpus} GPUs of {cell.hardware} are asked, {fleet.about} has {total}"
        yield Objection(verdict="does_not_fit", rule="fleet-gpus", sentence=sentence)
    yield from _of_span(cell, spec, per_node)
    if shape is not None and not room.divides(shape, parallel.tp):
        heads = min(layer.heads for layer in shape.layers if layer.heads)
        sentence = f"{heads} attention heads of {cell.model.name} cannot be shared by tp {parallel.tp}"
        yield Objection(verdict="does_not_fit", rule="heads", sentence=sentence)


def _of_span(cell: Cell, spec: EngineSpec, per_node: int) -> Iterator[Objection]:
    """What it takes to use more GPUs than one node has; TP stays inside a node, PP and DP go over several."""
    parallel = cell.parallel
    if parallel.gpus <= max(per_node, 1):
        return
    asked = f"{parallel.gpus} GPUs are asked, nodes of {cell.hardware} have {per_node}"
    if spec.spans is None:
        remedy = f"lower pp or dp to {per_node} GPUs in all"
        sentence = f"{asked}: fleetbench starts {spec.title} on one node alone ({remedy})"
        yield Objection(verdict="engine_cannot", rule="span", sentence=sentence, source=spec.source)
        return
    for name, degree in (("pp", parallel.pp), ("dp", parallel.dp)):
        if degree > 1 and name not in spec.spans.kinds:
            sentence = f"{asked}: {spec.title} has no {name} over several nodes (leave it at 1, and raise "
            sentence += f"{' or '.join(spec.spans.kinds)})"
            yield Objection(verdict="engine_cannot", rule="span", sentence=sentence, source=spec.spans.source)
    nodes = -(-parallel.gpus // per_node)
    each, replica = parallel.gpus // nodes, parallel.tp * parallel.pp
    split = parallel.dp > 1 and each % replica and replica % each
    if parallel.gpus % nodes or each % parallel.tp or split:
        sentence = f"{asked}: {nodes} nodes cannot share tp {parallel.tp}, pp {parallel.pp}, dp {parallel.dp} evenly"
        sentence += f" (make pp or dp a multiple of {nodes})"
        yield Objection(verdict="does_not_fit", rule="span", sentence=sentence, source=spec.spans.source)


def _public(version: str) -> str:
    """Without what a build adds: `0.32.0+cpu` is 0.32.0."""
    return version.partition("+")[0]


def _size(count: int) -> str:
    for factor, word in _FACTORS:
        if count >= factor:
            return f"{count / factor:.1f} {word}"
    return f"{count} B"
