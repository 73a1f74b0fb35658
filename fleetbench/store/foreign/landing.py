"""A foreign file becomes one run: all of it lands, or nothing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from fleetbench import __version__
from fleetbench.matrix.identity import canonical, digest
from fleetbench.origin import NO_REFERENCE
from fleetbench.store.commit import Warehouse
from fleetbench.store.foreign.document import data
from fleetbench.store.foreign.figures import beside, recomputed, requests_table
from fleetbench.store.foreign.names import UNKNOWN, Names
from fleetbench.store.foreign.record import Axis, ForeignError, Reader, Record, Said

AS_SERVED = "as-served"
"""The recipe of a record that names none."""
"""No recipe of a foreign run is one that others are relative to."""
_ENERGY = ("energy_j", "energy_j_per_tok", "power_mean_w")
_SUFFIXES = (".gz", ".json", ".jsonl", ".csv", ".yaml", ".yml", ".txt")
_FILE = "import"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """What became of a file.

    already: it was in the warehouse before, and nothing was written; only the records are counted then, and unheard is
    what was said of it now: the first import's word stays.
    unmapped: names that the catalog does not know, by axis, with the records that have them; not_said: axes that so
    many records do not name; left_out: sentences on what was not kept, not_valid: on why not to compare,
    with the records that they hold for.
    """

    run_id: str
    run: str
    records: int
    already: bool = False
    unheard: tuple[str, ...] = ()
    unmapped: Mapping[tuple[Axis, str], int] = field(default_factory=dict)
    not_said: Mapping[Axis, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    not_valid: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a file is from: format, its name or the address that the user gives, its content's hash, licence."""

    form: str
    source: str
    sha256: str
    licence: str | None

    @property
    def run_id(self) -> str:
        """The same content in the same format is the same run, whatever the file's name."""
        return digest({"import": self.form, "sha256": self.sha256})[:12]


@dataclass(slots=True)
class _Harvest:
    """The rows of a file's records, as they come."""

    origin: Origin
    names: Names
    given: Mapping[str, str | int]
    trials: list[Row] = field(default_factory=list)
    host: dict[str, list[Row]] = field(default_factory=dict)
    requests: list[pa.Table] = field(default_factory=list)
    repeats: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    not_valid: Counter[str] = field(default_factory=Counter)

    def take(self, record: Record) -> None:
        record = _filled(record, self.given)
        run_id, form = self.origin.run_id, self.origin.form
        axes = {**self.names.columns(record), **_asked(record)}
        cell_id = self._cell_id(axes, record)
        repeat, self.repeats[cell_id] = self.repeats[cell_id], self.repeats[cell_id] + 1
        key = {"run_id": run_id, "trial_id": digest([run_id, len(self.trials)])[:16], "attempt": 0}
        ours = recomputed(record)
        reported = {**record.reported, **beside(record.figures, ours)}
        facts = {f"{form}.{name}": text for name, text in _texts({**record.said, **record.conditions}).items()}
        facts |= {f"{form}.reported.{name}": text for name, text in _texts(reported).items()}
        facts |= {f"given.{name}": text for name, text in _texts(self.given).items()}
        launch_id = digest([run_id, facts])[:16] if facts else None
        if launch_id is not None and launch_id not in self.host:
            said = {"run_id": run_id, "launch_id": launch_id, "attempt": 0}
            self.host[launch_id] = [{**said, "name": name, "value": text} for name, text in facts.items()]
        if record.requests:
            self.requests.append(requests_table(record, key))
        self.left_out.update(record.left_out)
        if not record.valid:
            self.not_valid[record.reason or record.outcome.value] += 1
        self.trials.append(
            {
                **_defaults(record),
                **{name: value for name, value in record.figures.items() if value is not None},
                **ours,
                **key,
                **axes,
                "cell_id": cell_id,
                "conditions": canonical(conditions) if (conditions := _texts(record.conditions)) else None,
                "launch_id": launch_id,
                "repeat": repeat,
            }
        )

    def _cell_id(self, axes: Row, record: Record) -> str:
        """Files that do not say what they measured may tell of different things, however alike: no cell in common."""
        unsaid = UNKNOWN in (axes["model"], axes["hardware"], axes["engine"])
        identity = {"import": self.origin.form, **axes, "conditions": _texts(record.conditions)}
        return digest({**identity, "file": self.origin.sha256 if unsaid else None})[:16]

    def landed(self, run: str) -> Landed:
        return Landed(
            run_id=self.origin.run_id,
            run=run,
            records=len(self.trials),
            unmapped=dict(self.names.unmapped),
            not_said=dict(self.names.not_said),
            left_out=dict(self.left_out),
            not_valid=dict(self.not_valid),
        )


def import_file(
    path: Path,
    reader: Reader,
    warehouse: Warehouse,
    *,
    source: str | None = None,
    licence: str | None = None,
    given: Mapping[str, str | int] = MappingProxyType({}),
) -> Landed:
    """Land the records of a file as one run; a file whose content is there already changes nothing.

    Args:
        path: the file, perhaps packed by gzip.
        reader: of its format.
        warehouse: created already.
        source: the address that it is from; its name if left out.
        licence: that its publisher gives it under; what the reader knows of the format's if left out.
        given: by names of GIVEN, what the user knows and the file does not say.

    Raises:
        ForeignError: where and why the file cannot be taken in.
        StoreError: the warehouse cannot be written.
    """
    origin = Origin(
        form=reader.name,
        source=source or path.name,
        sha256=hashlib.sha256(data(path)).hexdigest(),
        licence=licence or reader.licence,
    )
    if there := warehouse.committed(origin.run_id):
        said = {"source": source, "licence": licence, **given}
        return Landed(run_id=origin.run_id, run=_stem(path), records=len(there), already=True, unheard=_unheard(said))
    harvest = _Harvest(origin=origin, names=Names(words=reader.words), given=given)
    for record in reader.read(path):
        harvest.take(record)
    if not harvest.trials:
        raise ForeignError("", f"it holds no result of {origin.form}")
    landed = harvest.landed(_stem(path))
    facts = [row for rows in harvest.host.values() for row in rows]
    if facts:
        warehouse.commit("host", facts, run_id=landed.run_id, name=_FILE)
    warehouse.commit("runs", [_run_row(landed, origin, len(harvest.repeats))], run_id=landed.run_id, name=_FILE)
    measured = {"requests": pa.concat_tables(harvest.requests)} if harvest.requests else {}
    if not warehouse.commit_trials(harvest.trials, measured):  # another import of it was quicker
        return Landed(run_id=landed.run_id, run=landed.run, records=landed.records, already=True)
    return landed


def _stem(path: Path) -> str:
    """The file's name without the endings that formats have."""
    name = path.name
    while (suffix := Path(name).suffix) in _SUFFIXES and len(name) > len(suffix):
        name = name.removesuffix(suffix)
    return name


def _unheard(said: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in said.items() if value is not None)


def _filled(record: Record, given: Mapping[str, str | int]) -> Record:
    """With what the user knows of it; a file that says something else is not overruled."""
    for name, value in given.items():
        if getattr(record, name) not in (None, UNKNOWN, value):
            why = f"the file says {getattr(record, name)}, which --given {name}={value} cannot change"
            raise ForeignError(f"{record.where}, {name}", why)
    facts: dict[str, Any] = dict(given)
    return replace(record, **facts)


def _asked(record: Record) -> Row:
    """The columns that say what was asked, without the named axes: with those and the conditions they are its cell."""
    return {
        "recipe": record.recipe or AS_SERVED,
        "engine_version": record.engine_version,
        "gpus": record.gpus,
        "tp": record.tp,
        "pp": record.pp,
        "dp": record.dp,
        "kind": record.kind,
        "batch": record.batch,
        "rate_per_s": record.rate_per_s,
        "context_tok": record.context_tok,
        "output_tok": record.output_tok,
        "suite": record.suite,
        "seed": record.seed,
    }


def _defaults(record: Record) -> Row:
    """What every row needs, and what says nothing of the cell."""
    measured = any(record.figures.get(name) is not None for name in _ENERGY)
    return {
        "role": "measure",
        "random_weights": False,
        "reference": False,
        "node": record.node,
        "started_at": record.started_at,
        "outcome": record.outcome.value,
        "valid": record.valid,
        "reason": record.reason,
        "power_status": "available" if measured else "not measured",
    }


def _texts(said: Mapping[str, Said]) -> dict[str, str]:
    """Facts as text, numbers and truth as JSON spells them; what is None is not there."""
    return {
        name: value if isinstance(value, str) else canonical(value)
        for name, value in sorted(said.items())
        if value is not None
    }


def _run_row(landed: Landed, origin: Origin, cells: int) -> Row:
    return {
        "run_id": landed.run_id,
        "run": landed.run,
        "matrix": f"import/{origin.form}",
        "analysis": f"What did {origin.form} measure, by {origin.source}?",
        "matrix_json": canonical({"import": origin.form, "source": origin.source, "sha256": origin.sha256}),
        "reference": NO_REFERENCE,
        "submitted_at": datetime.now(UTC),
        "fleetbench_version": __version__,
        "cells": cells,
        "refusals": 0,
        "trials": landed.records,
        "origin": origin.form,
        "source": origin.source,
        "source_sha256": origin.sha256,
        "licence": origin.licence,
        "unmapped": [f"{axis}: {name}" for axis, name in sorted(landed.unmapped)],
    }
