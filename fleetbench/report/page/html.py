"""The page: one HTML file with its style, script, charts' library and data, that fetches nothing."""

from __future__ import annotations

import base64
import datetime as dt
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files

import vl_convert

from fleetbench.report.page.data import columnar
from fleetbench.report.page.figures import figures, scales_of
from fleetbench.report.page.gather import Gathered
from fleetbench.report.page.spec import CONFIG, LAYOUT, VEGA_LITE, Figure
from fleetbench.report.page.tables import TABLES, described
from fleetbench.report.page.words import Words, words
from fleetbench.report.result import Row

LIBRARY_NOTICE = (
    "Vega, Vega-Lite, vega-embed and vega-tooltip: Copyright the University of Washington Interactive Data Lab and "
    "contributors, BSD 3-Clause License (https://github.com/vega); parts by their own authors, D3 among them (ISC)."
)
MOST_TITLED = 3
"""Runs that the title names."""
SECTIONS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("speed", "Speed", ("pareto", "best", "speed", "heat"), ("within_slo", "speeds")),
    ("quality", "Quality", ("trade", "parity", "accuracy", "divergence"), ("verdicts", "answers", "divergences")),
    ("latency", "Latency", ("ttft", "itl"), ("latencies",)),
    ("energy", "Energy and cost", ("energy", "cost"), ("prices",)),
    ("coverage", "Coverage and failures", ("coverage",), ("failures", "refusals")),
    ("provenance", "Where this comes from", (), ("runs", "nodes", "engines")),
)
"""Anchor, title, figures and tables."""
_FACETS = ("run", "hardware", "recipe", "model", "engine", "at", "panel", "panel_at")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "cells": (
        *_FACETS,
        *(
            "subject",
            "subject_at",
            "load",
            "load_at",
            "batch",
            "rate",
            "context_tok",
            "output_tok",
            "trials",
            "outcome",
        ),
        *(
            "reason",
            "output_tok_s",
            "output_tok_s_min",
            "output_tok_s_max",
            "per_gpu",
            "ships",
            "per_gpu_low",
            "per_gpu_high",
        ),
        *(
            "user_tok_s",
            "user_low",
            "user_high",
            "ratio",
            "ratio_low",
            "ratio_high",
            "energy",
            "energy_low",
            "energy_high",
        ),
        *("energy_net", "energy_n", "power_status", "cost", "cost_low", "cost_high"),
        *(
            f"{name}_{what}"
            for name in ("ttft", "itl")
            for what in ("p05", "p25", "p50", "p75", "p95", "p99", "samples", "n", "p50_ms", "p90_ms", "p99_ms")
        ),
    ),
    "accuracy": (*_FACETS, "suite", "category", "right", "right_low", "right_high", "n"),
    "parity": (*_FACETS, "category", "verdict", "loss", "loss_low", "loss_high", "margin", "n"),
    "divergence": (*_FACETS, "suite", "reference_name", "kl", "kl_low", "kl_high", "kl_se", "top1", "positions"),
    "trade": (
        *_FACETS,
        *("ratio", "ratio_low", "ratio_high", "cells", "right", "right_low", "right_high", "n", "suite"),
        *("quality_model", "quality_hardware"),
    ),
    "coverage": (*_FACETS, "outcome", "cells"),
}
"""What the page has of a dataset; of one that has only a table, the table's columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """By whom, when and from what a report was made."""

    version: str
    at: dt.datetime
    warehouse: str


def html(gathered: Gathered, made: Made) -> str:
    """The whole file. What the data says stands in it as text alone, wherever it comes from."""
    drawn = figures(scales_of(gathered.datasets["cells"], gathered.recipes))
    tables = {table.name: described(table, gathered.datasets[table.dataset]) for table in TABLES}
    style, script = _shipped("page.css"), _shipped("page.js")
    library = _library()
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'; "
        f"script-src {_hash(library)} {_hash(script)}"
    )
    title = f"fleetbench: {', '.join(str(run['run']) for run in gathered.runs[:MOST_TITLED]) or 'no run'}"
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f'<meta name="generator" content="fleetbench {escape(made.version)}">\n',
            f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n",
            *_body(gathered, made, drawn, tables),
            f'<script type="application/json" id="data">{_json(_payload(gathered, drawn, tables))}</script>\n',
            f"<script>{library}</script>\n<script>{script}</script>\n</body>\n</html>\n",
        )
    )


def _body(
    gathered: Gathered, made: Made, drawn: Sequence[Figure], tables: Mapping[str, Mapping[str, object]]
) -> Iterator[str]:
    by_name = {figure.name: figure for figure in drawn}
    names = ", ".join(str(run["run"]) for run in gathered.runs[:MOST_TITLED]) or "no run"
    more = f" and {len(gathered.runs) - MOST_TITLED} more" if len(gathered.runs) > MOST_TITLED else ""
    lost = sum(row["files"] for row in gathered.quarantined if isinstance(row["files"], int))
    yield f"<header>\n<h1>{escape(names + more)}</h1>\n"
    yield (
        f'<p class="made">Made {made.at:%Y-%m-%d %H:%M} UTC by fleetbench {escape(made.version)} from '
        f"{escape(made.warehouse)}; quarantined files: {lost:,}.</p>\n"
    )
    yield from _summary(words(gathered))
    yield '<p class="narrowing">What is below is narrowed; the words above are of everything.</p>\n</header>\n'
    links = "".join(f'<a href="#{anchor}" data-section="{anchor}">{title}</a>' for anchor, title, _, _ in SECTIONS)
    yield f'<div id="bar"><div><nav>{links}</nav><div id="filters"></div></div></div>\n<main>\n'
    yield "<noscript><p>Figures and tables are drawn by a script, which this browser does not run.</p></noscript>\n"
    for anchor, title, shown, listed in SECTIONS:
        yield f'<section id="section-{anchor}">\n<h2>{title}</h2>\n'
        yield from (_figure(by_name[name]) for name in shown)
        yield from (_table(tables[name]) for name in listed)
        yield "</section>\n"
    yield f"</main>\n<footer><p>Figures: Vega-Lite {VEGA_LITE}. {escape(LIBRARY_NOTICE)}</p></footer>\n"


def _summary(said: Words) -> Iterator[str]:
    yield '<div class="words">\n<section><h3>Compared</h3>'
    yield "".join(f"<p>{escape(sentence)}</p>" for sentence in said.compared)
    yield "</section>\n<section><h3>Found</h3><ul>"
    yield "".join(f"<li>{escape(sentence)}</li>" for sentence in said.found)
    yield '</ul></section>\n</div>\n<div class="words"><section class="caveats"><h3>Keep in mind</h3><ul>'
    yield "".join(f'<li class="alarm">{escape(sentence)}</li>' for sentence in said.alarms)
    yield "".join(f"<li>{escape(sentence)}</li>" for sentence in said.caveats)
    yield "</ul></section></div>\n"


def _figure(figure: Figure) -> str:
    return (
        f'<figure id="figure-{figure.name}">\n<h3>{escape(figure.title)}</h3>\n'
        f'<p class="says">{escape(figure.says)}</p>\n'
        f'<div class="chart" role="img" aria-label="{escape(figure.title)}"></div>\n'
        '<div class="chart paper" aria-hidden="true"></div>\n<p class="note"></p>\n</figure>\n'
    )


def _table(table: Mapping[str, object]) -> str:
    title = escape(str(table["title"]))
    notes = table["notes"] if isinstance(table["notes"], list) else []
    says = "".join(f'<p class="says">{escape(note)}</p>' for note in notes)
    inner = f'{says}\n<div class="rows"></div>\n<p class="note"></p>\n'
    if table["folded"]:
        inner = f'<details class="fold"><summary>{title}</summary>\n{inner}</details>\n'
    else:
        inner = f"<h3>{title}</h3>\n{inner}"
    return f'<div class="table" id="table-{table["name"]}">\n{inner}</div>\n'


def _payload(
    gathered: Gathered, drawn: Sequence[Figure], tables: Mapping[str, Mapping[str, object]]
) -> dict[str, object]:
    return {
        "recipes": list(gathered.recipes),
        "datasets": {name: columnar(rows, _needed(name, rows)) for name, rows in gathered.datasets.items()},
        "figures": [
            {
                "name": figure.name,
                "dataset": figure.dataset,
                "needs": list(figure.needs),
                "panels": figure.panels,
                "most_panels": figure.most_panels,
                "without": figure.without,
                "spec": figure.spec,
            }
            for figure in drawn
        ],
        "tables": [{key: value for key, value in table.items() if key != "notes"} for table in tables.values()],
        "config": CONFIG,
        "layout": asdict(LAYOUT),
    }


def _needed(dataset: str, rows: Sequence[Row]) -> list[str]:
    """Its columns that the rows have."""
    named = COLUMNS.get(dataset) or tuple(
        column.name for table in TABLES if table.dataset == dataset for column in table.columns
    )
    there = rows[0].keys() if rows else ()
    return [name for name in named if name in there]


def _json(payload: Mapping[str, object]) -> str:
    """JSON inside of HTML: no character of it can end the element or begin another."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.encode("utf-8", "replace").decode()


@functools.cache
def _library() -> str:
    """The charts' library as one script; no character of it ends its element."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return f"/* {LIBRARY_NOTICE} */\n{{{bundle}}}".replace("</script", "<\\/script")


def _shipped(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
