"""The parity gate over a run: its answers out of the warehouse, verdicts into it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import duckdb

from fleetbench import __version__
from fleetbench.judge.parity.contract import Contract, Deployment, asked_of
from fleetbench.judge.parity.gate import Answer, Judgement, gate, unjudged
from fleetbench.matrix.types import Parity
from fleetbench.store.commit import Warehouse
from fleetbench.store.schema import RECIPE_AXES, VERDICTS

Row = dict[str, Any]
ALL = "all"
REFERENCE, UNJUDGED = "REFERENCE", "UNJUDGED"
_AXES = tuple(axis.name for axis in RECIPE_AXES)
_PLACE = ("model", "engine", "engine_version", "hardware", "tp", "pp", "dp", "suite", "seed")
"""What candidates and their reference have in common."""
_CELLS = f"""
SELECT DISTINCT ON (t.cell_id)
    t.cell_id, t.suite, t.seed, {", ".join(f"t.{axis}" for axis in _AXES)}, c.trials, c.outcome, c.reason, l.effective
FROM trials AS t
INNER JOIN cells AS c ON t.run_id = c.run_id AND t.cell_id = c.cell_id
LEFT JOIN launches AS l ON t.run_id = l.run_id AND t.launch_id = l.launch_id AND t.launch_attempt = l.attempt
WHERE t.run_id = $run AND t.kind = 'quality' AND t.role = 'measure' AND NOT t.random_weights
ORDER BY t.cell_id, t.outcome = 'ok' DESC, t.repeat
"""  # noqa: S608 - our own names
_ANSWERS = """
SELECT
    t.cell_id, t.repeat, i.item_id, i.category, i.stratum, i.cluster, i.context_tok, i.correct, i.expected, i.answer,
    i.degenerate
FROM quality_items AS i
INNER JOIN good_trials AS t USING (run_id, trial_id, attempt)
WHERE t.run_id = $run AND t.kind = 'quality' AND NOT t.random_weights
ORDER BY t.cell_id, t.repeat
"""
_PARITY = "SELECT reference, json_extract_string(matrix_json, '$.parity') FROM runs WHERE run_id = $run"
_STORED = f"""
SELECT {", ".join(f'"{name}"' for name in VERDICTS.names if name != "judged_at")}
FROM verdicts WHERE run_id = $run ORDER BY ALL
"""  # noqa: S608 - our own names


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A quality cell as it was measured; runs: its answers, each a run over the suite."""

    facts: Mapping[str, Any]
    runs: tuple[tuple[Answer, ...], ...]

    @property
    def reference(self) -> bool:
        return bool(self.facts["reference"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A candidate, the reference's runs beside it, and what came of both."""

    candidate: Candidate
    reference: Candidate | None
    contract: Contract | None
    judgement: Judgement


def judge_run(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[Judged]:
    """Every candidate of a run against the reference that was measured at the same place; none without quality."""
    found = []
    ((name, said),) = connection.execute(_PARITY, {"run": run_id}).fetchall()
    parity = _parity(said)
    for _, group in groupby(_candidates(connection, run_id), key=_place):
        cells = list(group)
        reference = next((cell for cell in cells if cell.reference), None)
        contract = _contract(reference, parity) if reference and reference.runs else None
        for cell in cells:
            if not cell.reference:
                judgement = _judge(cell, reference, contract, name)
                found.append(Judged(candidate=cell, reference=reference, contract=contract, judgement=judgement))
    return found


def _judge(cell: Candidate, reference: Candidate | None, contract: Contract | None, name: str) -> Judgement:
    if not cell.runs:
        return unjudged(f"it was not measured: {_why_not(cell)}")
    if reference is None:
        return unjudged(f"the reference {name} was not asked there")
    if contract is None:
        return unjudged(f"the reference {name} was not measured: {_why_not(reference)}")
    return gate(contract, reference.runs, cell.runs)


def _why_not(cell: Candidate) -> str:
    return str(cell.facts["reason"] or cell.facts["outcome"])


def keep(warehouse: Warehouse, connection: duckdb.DuckDBPyConnection, run_id: str, judged: Sequence[Judged]) -> bool:
    """Commit what was judged; False where the warehouse says the same already.

    Raises:
        StoreError: no room, no rights.
    """
    rows = [row for one in judged for row in _rows(one, run_id)]
    references = {
        one.reference.facts["cell_id"]: _row(one.reference, run_id, one.contract, verdict=REFERENCE)
        for one in judged
        if one.reference and one.contract
    }
    rows += references.values()
    there = _rows_of(connection, _STORED, run_id)
    if sorted(map(_said, there)) == sorted(map(_said, rows)):
        return False
    now = datetime.now(UTC)
    warehouse.commit("verdicts", [{**row, "judged_at": now} for row in rows], run_id=run_id, name="parity")
    return True


def _said(row: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in row.items() if value is not None}, sort_keys=True)


def _rows_of(connection: duckdb.DuckDBPyConnection, sql: str, run_id: str) -> list[Row]:
    found = connection.execute(sql, {"run": run_id})
    names = [column[0] for column in found.description]
    return [dict(zip(names, values, strict=True)) for values in found.fetchall()]


def _parity(said: str | None) -> Parity:
    """As the matrix has it; of one that says nothing of it, the defaults."""
    form = json.loads(said) if said else {}
    if not form:
        return Parity()
    return Parity(
        margin=form["margin"],
        margins=tuple(sorted(form["margins"].items())),
        reference_runs=form["reference_runs"],
        churn=form["churn"],
        workload=tuple(form["workload"] or ()),
    )


def _candidates(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[Candidate]:
    """Quality cells of a run, by place, each with its answers."""
    runs: dict[str, dict[int, list[Answer]]] = {}
    for row in _rows_of(connection, _ANSWERS, run_id):
        cell_id, repeat = row.pop("cell_id"), row.pop("repeat")
        runs.setdefault(cell_id, {}).setdefault(repeat, []).append(Answer(**row))
    made = [
        Candidate(facts=facts, runs=tuple(tuple(run) for _, run in sorted(runs.get(facts["cell_id"], {}).items())))
        for facts in _rows_of(connection, _CELLS, run_id)
    ]
    return sorted(made, key=lambda cell: (str(_place(cell)), not cell.reference, cell.facts["recipe"]))


def _place(cell: Candidate) -> tuple[Any, ...]:
    return tuple(cell.facts[name] for name in _PLACE)


def _contract(reference: Candidate, parity: Parity) -> Contract:
    facts, asked = reference.facts, {answer.item_id: answer.category for answer in reference.runs[0]}
    counts: dict[str, int] = {}
    for category in asked.values():
        counts[category] = counts.get(category, 0) + 1
    margins = dict(parity.margins)
    return Contract(
        reference=Deployment(
            recipe=facts["recipe"],
            model=facts["model_digest"],
            weights=facts["artifact_id"],
            engine=facts["engine"],
            engine_version=facts["engine_version"],
            hardware=facts["hardware"],
            parallel=(facts["tp"], facts["pp"], facts["dp"]),
            effective=facts["effective"],
        ),
        suite=facts["suite"],
        seed=facts["seed"],
        items=tuple(sorted(counts.items())),
        asked=asked_of(list(asked)),
        runs=len(reference.runs),
        margins=tuple((category, margins.get(category, parity.margin)) for category in sorted(counts)),
        churn=parity.churn,
        workload=parity.workload,
    )


def _rows(one: Judged, run_id: str) -> Iterator[Row]:
    """A row for the candidate as a whole, and one a category."""
    judgement, cell, contract = one.judgement, one.candidate, one.contract
    verdict = str(judgement.verdict) if judgement.verdict else UNJUDGED
    yield {
        **_row(cell, run_id, contract, verdict=verdict),
        "why": judgement.why,
        "warnings": list(judgement.warnings),
        "n": sum(each.pairs.n for each in judgement.categories.values()) or None,
    }
    for category, each in judgement.categories.items():
        yield {
            **_row(cell, run_id, contract, verdict=str(each.verdict)),
            "category": category,
            "contract": None,
            "why": each.why,
            "margin": each.margin,
            "n": each.pairs.n,
            "lost": each.pairs.lost,
            "gained": each.pairs.gained,
            "drop": each.drop,
            "low": each.low,
            "high": each.high,
            "churn": judgement.churn[category],
            "clusters": each.pairs.clusters,
            "p_regressed": each.p_regressed,
            "p_exact": each.p_exact,
            "wanted_n": each.wanted,
        }


def _row(cell: Candidate, run_id: str, contract: Contract | None, *, verdict: str) -> Row:
    return {
        "run_id": run_id,
        "cell_id": cell.facts["cell_id"],
        "category": ALL,
        **{axis: cell.facts[axis] for axis in _AXES},
        "suite": cell.facts["suite"],
        "verdict": verdict,
        "contract_id": contract.contract_id if contract else None,
        "contract": contract.text if contract else None,
        "fleetbench_version": __version__,
    }
