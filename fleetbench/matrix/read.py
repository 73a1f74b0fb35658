"""A matrix file in, a Matrix out, or every mistake at once, each with file, line and path."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from pydantic import ValidationError

from fleetbench.catalog import lookup
from fleetbench.errors import InputError
from fleetbench.matrix import checks, identity
from fleetbench.matrix.document import Document, Lines, Loc, dotted, mistake, parse, place, printable, show
from fleetbench.matrix.expand import MAX_CELLS
from fleetbench.matrix.fields import is_hub_word, spell_recipe
from fleetbench.matrix.form import MatrixForm, ModelForm, ParallelForm, ParityForm, RecipeForm
from fleetbench.matrix.types import (
    Calibration,
    Draft,
    Effort,
    EngineAsk,
    Exclusion,
    KvFormat,
    Limits,
    LoadPoint,
    Matrix,
    Measure,
    ModelSpec,
    Parallel,
    Parity,
    QualitySpec,
    Recipe,
    Slo,
    Warmup,
)

MAX_BYTES = 1_000_000
MAX_MISTAKES = 200


def read(path: Path) -> Matrix:
    """The matrix in `path`.

    Raises:
        InputError: every mistake, one per line: `FILE:LINE: path.to.key: sentence (what to do)`.
    """
    return read_with_lines(path)[0]


def read_with_lines(path: Path) -> tuple[Matrix, Lines]:
    """`read`, and where each value stands in the file. Paths of models are taken relative to the file's folder."""
    source = printable(str(path))
    matrix, lines = _read_text(_text(path, source), source, path.parent)
    missing = [
        lines.mistake(("models", index, "path"), "no such folder (a model is a folder in Hugging Face layout)")
        for index, model in enumerate(matrix.models)
        if model.path is not None and not _is_folder(model.path)
    ]
    if missing:
        raise InputError(tuple(missing))
    return matrix, lines


def read_text(text: str, source: str) -> Matrix:
    """The matrix in `text`, which is called `source` in mistakes; paths of models stay as they are written."""
    return _read_text(text, source, None)[0]


def read_elsewhere(path: Path) -> tuple[str, Matrix, Lines]:
    """The text in `path`, and `read_with_lines` of it for another machine: its paths stay, and are not looked at."""
    source = printable(str(path))
    text = _text(path, source)
    return text, *_read_text(text, source, None)


def recipe_of(word: str, mistakes: list[str]) -> Recipe | None:
    """A recipe by its short name, or of a bare weight format; None, and a mistake, where the word is neither."""
    try:
        return _recipe(RecipeForm.model_validate(spell_recipe(word)), None)
    except ValidationError:
        names = (*lookup.recipe_names(), *lookup.format_names("weights"))
        near = lookup.nearest(word, names) or list(lookup.recipe_names())
        mistakes.append(f"recipe {show(word)} is not known (did you mean {' or '.join(near[:3])}?)")
        return None


def _text(path: Path, source: str) -> str:
    try:
        if path.is_dir():
            raise InputError((f"{source}: is a folder (name a matrix file in it)",))
        if path.exists() and not path.is_file():
            raise InputError((f"{source}: is not a regular file",))
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError((f"{source}: no such file",)) from None
    except OSError as error:
        raise InputError((f"{source}: cannot be read: {error.strerror}",)) from error
    except ValueError:  # a NUL in the name
        raise InputError((f"{source}: no such file",)) from None
    if len(content) > MAX_BYTES:
        raise InputError((f"{source}: is larger than {MAX_BYTES} bytes (a matrix is a small file)",))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError((f"{place(source, line)}: is not UTF-8 (save it as UTF-8)",)) from error


def _read_text(text: str, source: str, folder: Path | None) -> tuple[Matrix, Lines]:
    if len(text) > MAX_BYTES:
        raise InputError((f"{source}: is larger than {MAX_BYTES} characters (a matrix is a small file)",))
    document = parse(text)
    lines = Lines(source=source, root=document.root)
    mistakes = [(problem.line, f"{place(source, problem.line)}: {problem.sentence}") for problem in document.problems]
    form = _validate(document, lines, mistakes)
    if form is None or mistakes:
        raise InputError(_ordered(mistakes))
    if (cells := _count(form)) > MAX_CELLS:
        raise InputError((_too_many(form, cells, lines),))
    matrix = _matrix(form, folder)
    twins = [(lines.find(loc)[1] or 0, lines.mistake(loc, why)) for loc, why in (*_twins(matrix), *_overlaps(form))]
    if twins:
        raise InputError(_ordered(twins))
    return matrix, lines


def _validate(document: Document, lines: Lines, mistakes: list[tuple[int, str]]) -> MatrixForm | None:
    if document.root is None:
        if not mistakes:
            mistakes.append((0, f"{lines.source}: is empty (see `fleetbench matrix schema`)"))
        return None
    tree = document.root.plain()
    if not isinstance(tree, dict):
        mistakes.append((1, f"{place(lines.source, document.root.line)}: is not a mapping (begin with `name: ...`)"))
        return None
    found: dict[Loc, str] = {}
    form: MatrixForm | None = None
    for loc, why in checks.nulls(tree):
        found.setdefault(loc, why)
    try:
        form = MatrixForm.model_validate(tree)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            absent = detail["loc"][-1:] if detail["type"] == "missing" else ()
            loc = lines.find(detail["loc"])[0]
            found.setdefault((*loc, *absent), checks.sentence(detail))
    for loc, why in checks.cross(tree):
        found.setdefault(lines.find(loc)[0], why)
    for loc, why in found.items():
        line = lines.find(loc)[1]
        mistakes.append((line or 0, mistake(lines.source, line, loc, why)))
    return form


def _ordered(mistakes: list[tuple[int, str]]) -> tuple[str, ...]:
    texts = [text for _, text in sorted(mistakes, key=lambda mistake: mistake[0])]
    more = len(texts) - MAX_MISTAKES
    return (*texts[:MAX_MISTAKES], f"... and {more} more") if more > 0 else tuple(texts)


def _too_many(form: MatrixForm, cells: int, lines: Lines) -> str:
    """The mistake of a matrix beyond MAX_CELLS, at its longest axis."""
    axes: dict[Loc, int] = {
        ("models",): len(form.models),
        ("engines",): len(form.engines),
        ("hardware",): len(form.hardware),
        ("parallel",): sum(len(entry.tp) * len(entry.pp) * len(entry.dp) for entry in form.parallel),
        ("recipes",): len(form.recipes),
    }
    if form.load:
        for name in ("batch", "rate", "context", "output"):
            axes["load", name] = len(getattr(form.load, name) or ())
    said = ", ".join(f"{dotted(loc)} {values:,}" for loc, values in axes.items() if values > 1)
    why = f"the matrix has {cells:,} cells, more than {MAX_CELLS:,}: {said} (shorten an axis)"
    return lines.mistake(max(axes, key=lambda loc: axes[loc]), why)


def _count(form: MatrixForm) -> int:
    """The cells of a form, before anything is multiplied out."""
    degrees = sum(len(entry.tp) * len(entry.pp) * len(entry.dp) for entry in form.parallel)
    points = 0
    if form.load:
        points = len(form.load.batch or form.load.rate or ()) * len(form.load.context) * len(form.load.output)
    works = sum(
        points * ("speed" in measure) + ("quality" in measure and form.quality is not None)
        for measure in (_measure(model, form) for model in form.models)
    )
    return len(form.recipes) * len(form.engines) * len(form.hardware) * degrees * works


def _measure(model: ModelForm, form: MatrixForm) -> tuple[Measure, ...]:
    if model.measure is not None:
        return tuple(sorted(model.measure, reverse=True))
    asked: list[Measure] = ["speed"] if form.load else []
    return (*asked, "quality") if form.quality else tuple(asked)


def _matrix(form: MatrixForm, folder: Path | None) -> Matrix:
    return Matrix(
        name=form.name,
        analysis=form.analysis.strip(),
        models=tuple(
            ModelSpec(
                name=model.name,
                path=_path(model.path, folder),
                measure=_measure(model, form),
                hub=model.hub,
                revision=model.revision,
                dummy=model.dummy,
            )
            for model in form.models
        ),
        engines=tuple(
            EngineAsk(name=engine.name, version=engine.version, args=tuple(engine.args)) for engine in form.engines
        ),
        hardware=tuple(form.hardware),
        parallel=tuple(point for entry in form.parallel for point in _parallel(entry)),
        reference=form.reference,
        recipes=tuple(_recipe(recipe, folder) for recipe in form.recipes),
        load=_load(form),
        effort=_effort(form),
        repeats=form.repeats,
        seed=form.seed,
        quality=QualitySpec(suite=form.quality.suite, items=form.quality.items) if form.quality else None,
        parity=_parity(form.parity),
        slo=Slo(ttft_p99_ms=form.slo.ttft_p99_ms, itl_p99_ms=form.slo.itl_p99_ms),
        limits=Limits(
            launch_s=form.limits.launch,
            trial_s=form.limits.trial,
            wall_s=form.limits.wall,
            cost_usd=form.limits.cost_usd,
        ),
        exclude=tuple(
            Exclusion(
                match=tuple(
                    (axis, value)
                    for axis, values in entry.model_dump(exclude={"because"}, exclude_none=True).items()
                    for value in values
                ),
                because=entry.because.strip(),
            )
            for entry in form.exclude
        ),
        canonical=identity.canonical(form.model_dump(mode="json")),
        allow=tuple(sorted(form.allow)),
    )


def _parity(form: ParityForm) -> Parity:
    return Parity(
        margin=form.margin,
        margins=tuple(sorted(form.margins.items())),
        reference_runs=form.reference_runs,
        churn=form.churn,
        workload=tuple(form.workload or ()),
    )


def _path(path: str | None, folder: Path | None) -> str | None:
    if path is None or folder is None:
        return path
    try:
        return str(folder / Path(path).expanduser())
    except RuntimeError:  # ~someone who is not here
        return str(folder / path)


def _draft_model(word: str | None, folder: Path | None) -> str | None:
    """A whole path; or a hub id, where nothing of that name is beside the matrix."""
    if word is None or folder is None or (is_hub_word(word) and not os.path.lexists(folder / word)):
        return word
    return _path(word, folder.absolute())


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # too long, not ours to look at, or a NUL
        return False


def _parallel(entry: ParallelForm) -> list[Parallel]:
    return [Parallel(tp=tp, pp=pp, dp=dp) for tp, pp, dp in itertools.product(entry.tp, entry.pp, entry.dp)]


def _recipe(recipe: RecipeForm, folder: Path | None) -> Recipe:
    kv, calibration, draft = recipe.kv, recipe.calibration, recipe.draft
    return Recipe(
        name=recipe.name,
        weights=recipe.weights,
        activations=recipe.activations,
        scales=recipe.scales,
        kv=KvFormat(k=kv.k, v=kv.v, k_scales=kv.granularity.k, v_scales=kv.granularity.v),
        attention=recipe.attention,
        method=recipe.method,
        group_size=recipe.group_size,
        calibration=Calibration(
            path=_path(calibration.path, folder) or "",
            samples=calibration.samples,
            sequence_tok=calibration.sequence,
        )
        if calibration
        else None,
        protect=tuple(sorted(set(recipe.protect))),
        lora=tuple(_path(path, folder) or "" for path in recipe.lora),
        draft=Draft(method=draft.method, model=_draft_model(draft.model, folder), tokens=draft.tokens)
        if draft
        else None,
    )


def _load(form: MatrixForm) -> tuple[LoadPoint, ...]:
    load = form.load
    if load is None:
        return ()
    lengths = list(itertools.product(load.context, load.output))
    if load.rate is None:
        return tuple(
            LoadPoint(batch=batch, context_tok=context, output_tok=output)
            for batch in load.batch or ()
            for context, output in lengths
        )
    return tuple(
        LoadPoint(batch=None, rate=rate, arrivals=load.arrivals or "poisson", context_tok=context, output_tok=output)
        for rate in load.rate
        for context, output in lengths
    )


def _effort(form: MatrixForm) -> Effort:
    if form.load is None:
        return Effort(requests=8, warmup=Warmup(requests=1))
    warmup = form.load.warmup
    return Effort(
        requests=form.load.requests,
        warmup=Warmup(requests=warmup.requests, context_tok=warmup.context, output_tok=warmup.output),
    )


def _twins(matrix: Matrix) -> list[tuple[Loc, str]]:
    """Recipes that differ in their names only: their cells would be the same cells."""
    first: dict[str, str] = {}
    found: list[tuple[Loc, str]] = []
    for index, recipe in enumerate(matrix.recipes):
        other = first.setdefault(identity.canonical(identity.recipe_axes(recipe)), recipe.name)
        if other != recipe.name:
            found.append((("recipes", index), f"{recipe.name} is {other} under another name (keep one)"))
    return found


def _overlaps(form: MatrixForm) -> list[tuple[Loc, str]]:
    seen: set[Parallel] = set()
    found: list[tuple[Loc, str]] = []
    for index, entry in enumerate(form.parallel):
        for point in _parallel(entry):
            if point in seen:
                why = f"tp={point.tp} pp={point.pp} dp={point.dp} stands twice (keep one)"
                found.append((("parallel", index), why))
            seen.add(point)
    return found
