"""A warehouse like a fleet's: kinds of hardware, models, engines and loads, failures of all sorts, and a foreign run.

Its numbers are made by formulas, so that a test knows them; nothing was measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from fleetbench.store.commit import Warehouse
from fleetbench_collectors import sketch
from tests.samples import START, Lab, Row, item_row, position_row, recipe_axes, trial_row, verdict_row

HARDWARE = {"a100-80g": 1.0, "h100": 2.1, "b200": 4.4}
"""How fast it is."""
RECIPES = {"bf16": 1.0, "fp8": 1.62, "int8": 1.41, "awq": 1.18, "nvfp4": 2.05}
BATCHES, CONTEXTS = (1, 8, 32, 128), (512, 4096)
NASTY = "fp8 </script><img src=x onerror=alert(1)> \"q\" 'a' & \N{ROCKET} \N{LINE SEPARATOR}"
"""What a person may call a recipe."""
SUITE = "embedded/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What the run `fleet` is over."""

    hardware: Sequence[str] = tuple(HARDWARE)
    recipes: Sequence[str] = tuple(RECIPES)
    batches: Sequence[int] = BATCHES
    contexts: Sequence[int] = CONTEXTS
    model: str = "llama-3.1-8b"
    engine: str = "vllm"
    repeats: int = 2
    samples: int = 200
    """Of times to first token in a trial; of times between tokens twice as many."""


def commit(warehouse: Warehouse, fleet: Fleet = Fleet(), **run: Any) -> str:
    """Commit the run with its trials, failures, refusals, launches and quality in a few files; its run_id."""
    lab = Lab(warehouse)
    run_id = str(run.get("run_id", "fleet-run"))
    trials = [row for row in _trials(fleet, run_id) if row]
    refusals = list(_refusals(fleet, run_id))
    asked = {
        "matrix": "fleet",
        "reference": fleet.recipes[0],
        "cells": _cells(fleet) - len(refusals),
        "trials": len(trials),
    }
    lab.run(**{"matrix_json": _matrix(fleet), **asked, "refusals": len(refusals), "run_id": run_id, **run})
    for table, rows in (("trials", trials), ("refusals", refusals), ("launches", list(_launches(fleet, run_id)))):
        if rows:
            warehouse.commit(table, rows, run_id=run_id, name=f"{table}-all")
    warehouse.commit("host", list(_host(fleet, run_id)), run_id=run_id, name="host-all")
    for recipe in fleet.recipes:
        _quality(lab, fleet, recipe, run_id)
    lab.rows("verdicts", list(_verdicts(fleet, run_id)))
    return run_id


def speed(hardware: str, recipe: str, batch: int, context: int) -> Row:
    """The formula: tokens a second and times of a load, in the columns of a trial."""
    factor = HARDWARE.get(hardware, 1.0) * RECIPES.get(recipe, 1.3)
    itl_ms = (9.0 + 0.16 * batch * (1 + context / 16_384)) / factor
    ttft_ms = (0.035 * context * math.sqrt(batch) + 4.0) / factor
    output_tok = 128
    e2e_s = (ttft_ms + itl_ms * (output_tok - 1)) / 1e3
    return {"output_tok_s": batch * output_tok / e2e_s, "ttft_ms": ttft_ms, "itl_ms": itl_ms, "output_tok": output_tok}


def _cells(fleet: Fleet) -> int:
    return len(fleet.hardware) * len(fleet.recipes) * len(fleet.batches) * len(fleet.contexts) + len(fleet.recipes)


def _matrix(fleet: Fleet) -> str:
    import json  # noqa: PLC0415 - here alone

    slo = {"ttft_p99_ms": 500.0, "itl_p99_ms": 20.0}
    return json.dumps({"recipes": [{"name": name} for name in fleet.recipes], "slo": slo})


def _axes(fleet: Fleet, hardware: str, recipe: str) -> Row:
    axes = recipe_axes(recipe, model=fleet.model, random_weights=False, engine=fleet.engine, engine_version="0.33.0")
    return {**axes, "hardware": hardware, "gpus": 1, "reference": recipe == fleet.recipes[0], "model_digest": "e" * 64}


def _refused(hardware: str, recipe: str) -> bool:
    return hardware == "a100-80g" and recipe in {"fp8", "nvfp4"}


def _loads(fleet: Fleet) -> Iterator[tuple[str, str, int, int]]:
    return itertools.product(fleet.hardware, fleet.recipes, fleet.batches, fleet.contexts)


def _cell_id(*parts: object) -> str:
    return sketchy("-".join(map(str, parts)))


def sketchy(text: str) -> str:
    """A name of letters and digits alone, the same for the same text."""
    import hashlib  # noqa: PLC0415 - here alone

    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _trials(fleet: Fleet, run_id: str) -> Iterator[Row]:
    chance = np.random.default_rng(7)
    for number, (hardware, recipe, batch, context) in enumerate(_loads(fleet)):
        if _refused(hardware, recipe):
            continue
        axes, cell_id = _axes(fleet, hardware, recipe), _cell_id(fleet.model, hardware, recipe, batch, context)
        truth = speed(hardware, recipe, batch, context)
        for repeat in range(fleet.repeats):
            row = trial_row(recipe, repeat, run_id=run_id, batch=batch, context_tok=context, cell_id=cell_id) | axes
            row |= {"trial_id": f"{cell_id}-{repeat}", "launch_id": _cell_id(hardware, recipe), "node": f"{hardware}-0"}
            row |= {"output_tok": truth["output_tok"], "started_at": START + timedelta(seconds=number)}
            if hardware == "a100-80g" and recipe == "bf16" and batch == max(fleet.batches) and context > 1024:
                yield row | {"outcome": "oom", "valid": False, "reason": "out of memory: 81 GiB asked of 80 GiB"}
                continue
            wobble = 1 + 0.02 * float(chance.standard_normal())
            yield row | _measured(truth, wobble, chance, hardware, fleet.samples) | _doubt(hardware, recipe, batch)


def _doubt(hardware: str, recipe: str, batch: int) -> Row:
    if (hardware, recipe, batch) != ("h100", "awq", 128):
        return {}
    return {"outcome": "invalid", "valid": False, "reason": "client_bound: the client had no CPU time left"}


def _measured(truth: Row, wobble: float, chance: np.random.Generator, hardware: str, samples: int) -> Row:
    ttft = truth["ttft_ms"] * wobble * chance.lognormal(0, 0.18, samples)
    itl = truth["itl_ms"] * wobble * chance.lognormal(0, 0.06, 2 * samples)
    row: Row = {
        "output_tok_s": truth["output_tok_s"] / wobble,
        "total_tok_s": truth["output_tok_s"] / wobble * 5,
        "requests_per_s": truth["output_tok_s"] / 128,
        "completed_requests": 200,
        "user_tok_s_p50": 1e3 / truth["itl_ms"] / wobble,
        "user_tok_s_mean": 1e3 / truth["itl_ms"] / wobble,
        "tpot_mean_ms": truth["itl_ms"] * wobble,
        "ttft_sketch": sketch.build(ttft).row(),
        "itl_sketch": sketch.build(itl).row(),
    }
    for name, values in (("ttft", ttft), ("itl", itl)):
        p50, p90, p99 = np.quantile(values, [0.5, 0.9, 0.99])
        row |= {f"{name}_n": len(values), f"{name}_mean_ms": float(values.mean())}
        row |= {f"{name}_p50_ms": float(p50), f"{name}_p90_ms": float(p90), f"{name}_p99_ms": float(p99)}
    if hardware != "a100-80g":
        watts = {"h100": 610.0, "b200": 940.0}.get(hardware, 400.0)
        joules = watts / truth["output_tok_s"] * wobble
        row |= {"power_status": "available", "energy_j_per_tok": joules, "energy_j": joules * 25_600}
        row |= {"power_mean_w": watts}
    return row


def _refusals(fleet: Fleet, run_id: str) -> Iterator[Row]:
    for hardware, recipe, batch, context in _loads(fleet):
        if _refused(hardware, recipe):
            yield {
                **_axes(fleet, hardware, recipe),
                "run_id": run_id,
                "cell_id": _cell_id(fleet.model, hardware, recipe, batch, context),
                "kind": "speed",
                "batch": batch,
                "context_tok": context,
                "output_tok": 128,
                "verdict": "hardware_cannot",
                "rule": "format-units",
                "sentence": f"{hardware} has no units for {recipe}",
                "source": "the vendor's datasheet",
            }


def _launches(fleet: Fleet, run_id: str) -> Iterator[Row]:
    for hardware, recipe in itertools.product(fleet.hardware, fleet.recipes):
        if not _refused(hardware, recipe):
            yield {
                **_axes(fleet, hardware, recipe),
                "run_id": run_id,
                "launch_id": _cell_id(hardware, recipe),
                "attempt": 0,
                "role": "measure",
                "outcome": "ok",
                "node": f"{hardware}-0",
                "lease": "lease",
                "started_at": START,
                "wall_s": 61.0,
                "artifact_bytes": int(16e9 / RECIPES.get(recipe, 1.3)),
                "requested": f'{{"--max-num-seqs": 128, "--quantization": "{sketchy(recipe)}"}}',
            }


def _host(fleet: Fleet, run_id: str) -> Iterator[Row]:
    for hardware, recipe in itertools.product(fleet.hardware, fleet.recipes):
        facts = {"kernel": "6.12.0", "cpu_model": "Some CPU", "gpu.driver": "580.1", "gpu.0.name": hardware.upper()}
        for name, value in facts.items():
            launch = {"run_id": run_id, "launch_id": _cell_id(hardware, recipe), "attempt": 0}
            yield {**launch, "name": name, "value": value}


def _verdicts(fleet: Fleet, run_id: str) -> Iterator[Row]:
    """Every recipe passes everywhere."""
    for hardware, recipe in itertools.product(fleet.hardware, fleet.recipes):
        place = {"run_id": run_id, "cell_id": _cell_id(fleet.model, hardware, recipe, SUITE), "suite": SUITE}
        for category in ("all", "facts", "addition", "json"):
            verdict = "REFERENCE" if recipe == fleet.recipes[0] else "PASS"
            if category == "all" or verdict == "PASS":
                yield verdict_row(recipe, category, verdict) | _axes(fleet, hardware, recipe) | place


def _quality(lab: Lab, fleet: Fleet, recipe: str, run_id: str) -> None:
    """Worse by recipe: of 60 items, 3 fewer right for each place further down."""
    place = list(fleet.recipes).index(recipe)
    hardware = "h100" if "h100" in fleet.hardware else fleet.hardware[0]
    axes, cell_id = _axes(fleet, hardware, recipe), _cell_id(fleet.model, hardware, recipe, SUITE)
    row = trial_row(recipe, run_id=run_id, kind="quality", suite=SUITE, cell_id=cell_id) | axes
    row |= {"batch": None, "context_tok": None, "output_tok": None, "trial_id": cell_id, "node": f"{hardware}-0"}
    items = [
        item_row(n, correct=n >= 3 * place, suite=SUITE, category=("facts", "addition", "json")[n % 3])
        for n in range(60)
    ]
    lean = 0.02 * place
    positions = [position_row(n, [math.log(0.6 - lean), math.log(0.4 + lean)]) for n in range(60)]
    lab.trial(row, quality_items=items, quality_positions=positions)
