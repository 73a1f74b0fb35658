"""What a report says in words: what was compared, what came out, and what to keep in mind. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleetbench.origin import OWN
from fleetbench.report.cell import shown
from fleetbench.report.page.gather import Gathered
from fleetbench.report.page.quality import ALL, geometric
from fleetbench.report.result import Row

MOST_NAMED, MOST_PLACES, MOST_LOADS, MOST_REASONS = 8, 8, 6, 4
_PLACE = ("run", "hardware", "model", "engine", "tp", "pp", "dp")
_LOAD = ("batch", "rate", "context_tok", "output_tok", "kv")
_WRONG = ("failed", "invalid", "refused", "cancelled", "lost", "missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Sentences: what was compared, what was found, and caveats, the alarming ones first."""

    compared: Sequence[str]
    found: Sequence[str]
    alarms: Sequence[str]
    caveats: Sequence[str]


def words(gathered: Gathered) -> Words:
    """The summary at the top of a report, of all that it is over."""
    return Words(
        compared=tuple(_compared(gathered)),
        found=tuple(_found(gathered)),
        alarms=gathered.drift if gathered.drifted else (),
        caveats=tuple(_caveats(gathered)),
    )


def _compared(gathered: Gathered) -> Iterator[str]:
    for run in gathered.runs[:MOST_NAMED]:
        yield f"{run['run']} ({str(run['last_submitted_at'])[:16]} UTC): {run['question']}"
    if (more := len(gathered.runs) - MOST_NAMED) > 0:
        yield f"And {more} more runs, in the table of runs."
    if gathered.filters:
        yield f"Narrowed by {gathered.filters.said}."
    cells = gathered.every_cell
    parts = [
        _listed("recipe", gathered.recipes),
        _listed("model", [row["model"] for row in cells]),
        _listed("hardware", [row["hardware"] for row in cells], plural="kinds of hardware"),
        _listed("engine", [row["engine"] for row in cells]),
    ]
    yield f"{'; '.join(part for part in parts if part)}."
    measured = sum(_whole(row["trials"]) for row in cells)
    good = sum(1 for row in cells if row["trials"])
    yield f"Speed: {good:,} of {len(cells):,} cells have numbers, of {measured:,} good trials."
    answers = [row for row in gathered.datasets["accuracy"] if row["category"] == ALL]
    if answers:
        items = sum(_whole(row["n"]) for row in answers)
        yield f"Quality: {items:,} answers of {_listed('model', [row['model'] for row in answers])}."


def _listed(word: str, values: Sequence[object], *, plural: str | None = None) -> str:
    names = list(dict.fromkeys(str(value) for value in values))
    if len(names) <= 1:
        return f"{word} {names[0]}" if names else ""
    said = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    return f"{len(names)} {plural or f'{word}s'} ({said})"


def _found(gathered: Gathered) -> Iterator[str]:
    """By place: the recipe with the greatest speed-up, and what it does to quality."""
    places: dict[tuple[object, ...], dict[str, dict[tuple[object, ...], Row]]] = {}
    for row in gathered.every_cell:
        if isinstance(row["ratio"], float) and row["ratio"] > 0 and not row["reference"] and row["ships"]:
            place = tuple(row[name] for name in _PLACE)
            load = tuple(row[name] for name in _LOAD)
            places.setdefault(place, {}).setdefault(str(row["recipe"]), {})[load] = row
    if gathered.drifted and places:
        yield "No recipe is called the fastest: the machine's own speed changed while they were measured."
        places = {}
    elif not places:
        yield "No recipe was measured beside its reference, so there is no speed-up to tell of."
    for place, recipes in list(places.items())[:MOST_PLACES]:
        yield _fastest(gathered, place, recipes)
    if (more := len(places) - MOST_PLACES) > 0:
        yield f"And {more} more places: see the figures."
    yield from _within_slo(gathered.datasets["within_slo"])


def _fastest(
    gathered: Gathered, place: tuple[object, ...], recipes: Mapping[str, Mapping[tuple[object, ...], Row]]
) -> str:
    """Over the loads that all recipes have: which is faster than all others, beyond what trials differ by."""
    run, hardware, model, engine, *_ = place
    lead = f"{run}, {hardware}" if len(gathered.runs) > 1 else str(hardware)
    loads = set.intersection(*(set(cells) for cells in recipes.values()))
    if not loads:
        return f"{lead}: no load was measured with all recipes ({model}, {engine}), so none is called the fastest."
    of_all = len(set.union(*(set(cells) for cells in recipes.values())))
    speeds = {name: _Speed.of([cells[load] for load in loads]) for name, cells in recipes.items()}
    first, *others = sorted(speeds, key=lambda name: -speeds[name].ratio)
    best = speeds[first]
    alike = [name for name in others if not best.is_above(speeds[name])]
    reference = next(row["reference"] for row in gathered.runs if row["run"] == run)
    over = f"geometric mean of {_counted(len(loads), 'load')}{f' of {of_all}' if of_all > len(loads) else ''}"
    if alike:
        names = " and ".join([first, *alike]) if len(alike) < MOST_NAMED else f"{first} and {len(alike)} more"
        spread_known = best.low is not None and all(speeds[name].high is not None for name in alike)
        why = "their trials overlap" if spread_known else "of one trial no spread is known"
        said = (
            f"{names} are the fastest, and not told apart ({why}): {first} with {shown(best.ratio)} times the tok/s of "
            f"{reference} ({over}; {model}, {engine})."
        )
    else:
        spread = f", {shown(best.least)} to {shown(best.most)}" if len(loads) > 1 else ""
        what = "is the fastest, with" if others else "has"
        said = (
            f"{first} {what} {shown(best.ratio)} times the tok/s of {reference} ({over}{spread}; {model}, {engine})."
            f"{' At some loads it is not faster.' * (best.least <= 1)}"
        )
    return f"{lead}: {said}{_its_quality(gathered, run, engine, first)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Speed:
    """A recipe over some loads: geometric means of its speed-up and of its bounds, None with one trial; extremes."""

    ratio: float
    low: float | None
    high: float | None
    least: float
    most: float

    @classmethod
    def of(cls, cells: Sequence[Row]) -> _Speed:
        ratios, lows, highs = ([row[name] for row in cells] for name in ("ratio", "ratio_low", "ratio_high"))
        numbers = [ratio for ratio in ratios if isinstance(ratio, float)]
        return cls(ratio=geometric(numbers), low=_mean(lows), high=_mean(highs), least=min(numbers), most=max(numbers))

    def is_above(self, other: _Speed) -> bool:
        return self.low is not None and other.high is not None and self.low > other.high


def _mean(values: Sequence[object]) -> float | None:
    numbers = [value for value in values if isinstance(value, float) and value > 0]
    return geometric(numbers) if numbers and len(numbers) == len(values) else None


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _within_slo(rows: Sequence[Row]) -> Iterator[str]:
    """By SLO, place and load: the best recipe, or that none keeps to it."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("run", "slo", "hardware", "model", "engine", "context_tok", "output_tok"))
        groups.setdefault(key, []).append(row)
    for (_, slo, hardware, model, *_, context, output), group in list(groups.items())[:MOST_LOADS]:
        targets = str(slo).replace(",", ", ").replace(":", " ")
        lead = f"Within {targets} ms, {hardware}, {model}, {context} tokens in, {output} out:"
        best = group[0]
        if best["tok_s_per_gpu"] is None:
            cells, unknown = (sum(_whole(row[name]) for row in group) for name in ("n", "n_left_out"))
            yield f"{lead} no recipe is known to keep to it ({unknown} of {cells} cells unknown)."
        else:
            load = f"batch {best['batch']}" if best["batch"] is not None else f"{shown(best['rate_per_s'])} requests/s"
            rate = f"{_thousands(best['tok_s_per_gpu'])} tok/s per GPU"
            yield f"{lead} {best['recipe']} at {load} gives the most, {rate}."
    if (more := len(groups) - MOST_LOADS) > 0:
        yield f"And {more} more loads with an SLO: see the table."


def _its_quality(gathered: Gathered, run: object, engine: object, recipe: str) -> str:
    """Its right answers beside the reference's, where one model gave both."""
    own = [
        row
        for row in gathered.datasets["accuracy"]
        if (row["run"], row["engine"], row["category"]) == (run, engine, ALL) and row["right"] is not None
    ]
    for row in own:
        reference = next((other for other in own if other["reference"] and other["model"] == row["model"]), None)
        if row["recipe"] == recipe and reference is not None:
            return (
                f" With it {row['model']} gave {_percent(row)} right answers, with {reference['recipe']} "
                f"{_percent(reference)}."
            )
    return ""


def _percent(row: Row) -> str:
    return f"{row['right']:.1f} % ({row['right_low']:.1f} to {row['right_high']:.1f})"


def _caveats(gathered: Gathered) -> Iterator[str]:
    if not gathered.drifted:
        yield from gathered.drift
    counted = {word: sum(_whole(run[f"cells_{word}"]) for run in gathered.runs) for word in _WRONG}
    if any(counted.values()):
        named = {word: "never tried" if word == "missing" else word for word in counted}
        parts = ", ".join(f"{count:,} {named[word]}" for word, count in counted.items() if count)
        yield f"Cells of these runs without good numbers: {parts}. No figure of speed has them; the reasons are below."
    lost = sum(_whole(row["files"]) for row in gathered.quarantined)
    if lost:
        tables = ", ".join(f"{row['table_name']} {row['files']}" for row in gathered.quarantined)
        yield f"Quarantined: {lost:,} files of the warehouse cannot be read and are counted nowhere ({tables})."
    yield from gathered.left_out
    cells = gathered.every_cell
    if not any(row["quality_verdict"] for row in cells):
        yield "Quality is not judged: no recipe has passed or failed a parity gate, so a fast one may answer worse."
    if not gathered.unproven:
        out = {str(row["recipe"]): str(row["quality_verdict"] or "not judged") for row in cells if not row["ships"]}
        if out:
            said = ", ".join(f"{recipe} ({verdict})" for recipe, verdict in list(out.items())[:MOST_NAMED])
            yield f"Not called the best anywhere, for quality is not shown to hold: {said}; --unproven lets them."
    random = list(dict.fromkeys(str(row["model"]) for row in cells if row["random_weights"]))
    if random:
        yield f"The speed of {', '.join(random[:MOST_NAMED])} means something, its quality does not and is not shown."
    single = sum(1 for row in cells if row["trials"] == 1)
    if single:
        yield f"{single:,} cells have one trial alone: nobody knows their spread."
    yield from _unpowered(cells)
    foreign = [run for run in gathered.runs if run["origin"] != OWN]
    if foreign:
        yield (
            f"Imported from other tools ({_named(foreign, 'origin')}): {len(foreign)} of the runs, measured by their "
            "ways and not by fleetbench's; files and licences are in the table of runs."
        )


def _unpowered(cells: Sequence[Row]) -> Iterator[str]:
    """How many measured cells have no energy and no cost, and why."""
    measured = [row for row in cells if row["trials"]]
    for what, number, why in (("energy", "energy", "power_status"), ("cost", "cost", "no_cost")):
        without = [row for row in measured if row[number] is None]
        if without:
            reasons = _named(without, why)
            said = f"power {reasons}" if number == "energy" else reasons
            yield f"No {what} is known of {len(without):,} of the {len(measured):,} measured cells: {said}."


def _named(rows: Sequence[Mapping[str, object]], name: str) -> str:
    words = sorted({str(row[name] or "unknown").replace("_", " ") for row in rows})
    more = f" and {len(words) - MOST_REASONS} more" if len(words) > MOST_REASONS else ""
    return ", ".join(words[:MOST_REASONS]) + more


def _thousands(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, float) and value >= 1000 else shown(value)  # noqa: PLR2004 - a thousand


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
