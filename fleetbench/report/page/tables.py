"""The tables of a report's page: which columns, under which names, with how many decimals. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleetbench.report.cell import Form, numeric
from fleetbench.report.columns import FORMS
from fleetbench.report.result import Row

USD = Form(digits=3)
_FORMS: Mapping[str, Form] = {**FORMS, "USD": USD}
TEXT, SENTENCE, LONG = "text", "sentence", "long"
"""What is no number: a name, a sentence, and what may have many lines, which a page folds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`kind` is a unit of `columns.FORMS`, USD, text, sentence or long."""

    name: str
    label: str
    kind: str = TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table; needs: columns of which a row must have one. folded: open on a click, and in print."""

    name: str
    title: str
    dataset: str
    columns: Sequence[Column]
    says: str = ""
    needs: tuple[str, ...] = ()
    without: str = "There is none."
    folded: bool = False


def _columns(*given: tuple[str, str] | tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(name=name, label=label, kind=(*kind, TEXT)[0]) for name, label, *kind in given)


_KEYS = _columns(
    ("run", "run"),
    ("hardware", "hardware"),
    ("model", "model"),
    ("engine", "engine"),
    ("recipe", "recipe"),
    ("batch", "batch", "count"),
    ("rate", "rate/s", "1/s"),
    ("context_tok", "context", "count"),
    ("output_tok", "output", "count"),
)
_WHERE = _columns(
    ("run", "run"), ("hardware", "hardware"), ("model", "model"), ("engine", "engine"), ("recipe", "recipe")
)

TABLES: tuple[Table, ...] = (
    Table(
        name="speeds",
        title="Speed and energy, cell by cell",
        dataset="cells",
        columns=(
            *_KEYS,
            *_columns(
                ("trials", "trials", "count"),
                ("output_tok_s", "tok/s", "tok/s"),
                ("output_tok_s_min", "slowest", "tok/s"),
                ("output_tok_s_max", "fastest", "tok/s"),
                ("per_gpu", "per GPU", "tok/s"),
                ("user_tok_s", "per user", "tok/s"),
                ("ratio", "x ref", "x"),
                ("ratio_low", "low", "x"),
                ("ratio_high", "high", "x"),
                ("energy", "J/tok", "J/tok"),
                ("energy_net", "J/tok less idle", "J/tok"),
                ("energy_n", "J trials", "count"),
                ("power_status", "power"),
                ("cost", "USD/M tok", "USD"),
                ("outcome", "outcome"),
                ("reason", "reason", SENTENCE),
            ),
        ),
        says="Medians over the good trials of a cell. x ref: tok/s over the reference's at the same load, low and high "
        "over all pairs of trials.",
    ),
    Table(
        name="latencies",
        title="Latencies, cell by cell",
        dataset="cells",
        columns=(
            *_KEYS,
            *_columns(
                ("ttft_n", "TTFT n", "count"),
                ("ttft_p50_ms", "p50 ms", "ms"),
                ("ttft_p90_ms", "p90", "ms"),
                ("ttft_p99_ms", "p99", "ms"),
                ("itl_n", "ITL n", "count"),
                ("itl_p50_ms", "p50 ms", "ms"),
                ("itl_p90_ms", "p90", "ms"),
                ("itl_p99_ms", "p99", "ms"),
            ),
        ),
        says="TTFT: from the request to the first token, n requests; ITL: between tokens, n gaps. A quantile is the "
        "median of the trials' own; a p99 of fewer than 100 samples is missing.",
        needs=("ttft_p50_ms", "itl_p50_ms"),
        without="No cell has latencies.",
    ),
    Table(
        name="within_slo",
        title="The best throughput within the SLO",
        dataset="within_slo",
        columns=(
            *_WHERE,
            *_columns(
                ("context_tok", "context", "count"),
                ("output_tok", "output", "count"),
                ("slo", "SLO, ms"),
                ("batch", "batch", "count"),
                ("rate_per_s", "rate/s", "1/s"),
                ("tok_s_per_gpu", "tok/s per GPU", "tok/s"),
                ("user_tok_s_p50", "per user", "tok/s"),
                ("ttft_p99_ms", "TTFT p99 ms", "ms"),
                ("itl_p99_ms", "ITL p99 ms", "ms"),
                ("trials", "trials", "count"),
                ("n", "cells", "count"),
                ("n_within", "within", "count"),
                ("n_outside", "outside", "count"),
                ("n_left_out", "unknown", "count"),
                ("left_out", "why", SENTENCE),
            ),
        ),
        says="Of each recipe the cell with the most output tok/s per GPU among those that keep to the SLO.",
        without="No SLO was asked for.",
    ),
    Table(
        name="verdicts",
        title="Verdicts of the parity gate",
        dataset="verdicts",
        columns=(
            *_WHERE,
            *_columns(("suite", "suite"), ("verdict", "verdict"), ("n", "items", "count"), ("why", "why", SENTENCE)),
        ),
        says="PASS: in every category the drop is shown to be below the margin.",
        needs=("verdict",),
        without="No recipe's quality was judged against a reference.",
    ),
    Table(
        name="answers",
        title="Right answers",
        dataset="accuracy",
        columns=(
            *_WHERE,
            *_columns(
                ("suite", "suite"),
                ("category", "category"),
                ("right", "right %", "%"),
                ("right_low", "low", "%"),
                ("right_high", "high", "%"),
                ("n", "items", "count"),
            ),
        ),
        says="Low and high: Wilson's 95 % interval.",
        without="No quality was measured of a model whose weights were trained.",
        folded=True,
    ),
    Table(
        name="divergences",
        title="Divergence from the reference",
        dataset="divergence",
        columns=(
            *_WHERE,
            *_columns(
                ("reference_name", "from"),
                ("kl", "KL, nats", "nat"),
                ("kl_se", "±", "nat"),
                ("top1", "same first choice", "x"),
                ("positions", "positions", "count"),
            ),
        ),
        without="No divergence was measured of a model whose weights were trained.",
        folded=True,
    ),
    Table(
        name="prices",
        title="Prices",
        dataset="prices",
        columns=_columns(
            ("hardware", "hardware"),
            ("usd_per_hour", "USD per hour and device", "USD"),
            ("price_date", "as of"),
            ("price_source", "by", SENTENCE),
            ("no_cost", "why there is none", SENTENCE),
        ),
        without="No cell was measured.",
    ),
    Table(
        name="failures",
        title="What failed, and why",
        dataset="failures",
        columns=(
            *_columns(
                ("times", "times", "count"), ("outcome", "outcome"), ("what", "of"), ("reason", "reason", SENTENCE)
            ),
            *_WHERE,
            *_columns(("superseded", "made good", "count"), ("nodes", "nodes"), ("log", "end of the last log", LONG)),
        ),
        says="Attempts, of trials and of engine starts; made good: a later or better attempt counts in its place.",
        without="Nothing failed.",
    ),
    Table(
        name="refusals",
        title="What was refused, and why",
        dataset="refusals",
        columns=(
            *_columns(("cells", "cells", "count"), ("verdict", "verdict"), ("reason", "reason", SENTENCE)),
            *_WHERE,
            *_columns(("source", "whose word")),
        ),
        without="Nothing was refused.",
    ),
    Table(
        name="runs",
        title="Runs",
        dataset="runs",
        columns=_columns(
            ("run", "run"),
            ("run_id", "run_id"),
            ("question", "question", SENTENCE),
            ("last_submitted_at", "submitted (UTC)"),
            ("origin", "origin"),
            ("fleetbench_version", "fleetbench"),
            ("cells_planned", "cells", "count"),
            ("cells_ok", "ok", "count"),
            ("cells_invalid", "invalid", "count"),
            ("cells_failed", "failed", "count"),
            ("cells_refused", "refused", "count"),
            ("cells_cancelled", "cancelled", "count"),
            ("cells_lost", "lost", "count"),
            ("cells_missing", "never tried", "count"),
            ("trials_ok", "good trials", "count"),
            ("trials_planned", "of", "count"),
            ("source", "imported from"),
            ("source_sha256", "sha256"),
            ("licence", "licence"),
            ("unmapped", "unmapped names"),
        ),
        says="What was imported from another tool names its file, its hash and its licence.",
    ),
    Table(
        name="nodes",
        title="Nodes",
        dataset="nodes",
        columns=_columns(("run", "run"), ("hardware", "hardware"), ("node", "node"), ("facts", "facts", LONG)),
        says="As each machine said at its engine starts; | between values that differed from one start to another.",
        without="No machine's facts are known.",
    ),
    Table(
        name="engines",
        title="Engine starts and their arguments",
        dataset="engines",
        columns=(
            *_WHERE,
            *_columns(
                ("starts", "starts", "count"),
                ("ready_s", "ready after s", "x"),
                ("requested", "arguments", LONG),
                ("differences", "not applied", LONG),
            ),
        ),
        without="No engine start is known.",
        folded=True,
    ),
)


def described(table: Table, rows: Sequence[Row]) -> dict[str, object]:
    """The table for the page: its columns that have anything, and in a note those that are the same in every row."""
    rows = [row for row in rows if not table.needs or any(row.get(name) is not None for name in table.needs)]
    kept, same = [], []
    for column in table.columns:
        values = [row.get(column.name) for row in rows]
        if all(value in (None, [], "") for value in values):
            continue
        if column.kind == TEXT and len(rows) > 1 and all(value == values[0] for value in values):
            same.append(f"{column.label} {values[0]}")
            continue
        kept.append(_column(column, values))
    notes = [table.says] * bool(table.says) + [f"In every row: {', '.join(same)}."] * bool(same)
    return {
        "name": table.name,
        "title": table.title,
        "dataset": table.dataset,
        "needs": list(table.needs),
        "columns": kept,
        "notes": notes,
        "without": table.without,
        "folded": table.folded,
    }


def _column(column: Column, values: Sequence[object]) -> dict[str, object]:
    found: dict[str, object] = {"name": column.name, "label": column.label, "kind": column.kind}
    if form := _FORMS.get(column.kind):
        numbers = [float(value) for value in values if numeric(value) and isinstance(value, int | float)]
        found |= {"kind": "number", "decimals": form.decimals_for(numbers)}
    return found
