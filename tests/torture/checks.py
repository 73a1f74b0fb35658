"""What must hold of a run after whatever was done to it: real queries, files and processes; each breach a sentence."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from fleetbench.store.connection import connect, failed_checks
from fleetbench.store.parquet import read_whole
from tests.torture.ledger import Ledger
from tests.torture.processes import Process, look
from tests.torture.scene import Scene

GONE_S = 20.0
"""How soon after a run nothing of its launches is left: Ray ends an actor within a second, on a quiet machine."""
MEASURED = ("requests", "engine_metrics", "power", "quality_items")
TRACEBACK = "Traceback (most recent call last)"


def breaches(scene: Scene, ledger: Ledger, run: str) -> list[str]:
    """All of them, for a run that has ended and was resubmitted without further harm."""
    ledger.look()
    return [
        *ledger.changed(),
        *(f"{path.name} was visible and broken: {why}" for path, why in ledger.broken.items()),
        *_files(scene.warehouse),
        *_rows(scene, ledger, run),
        *_processes(scene),
        *_left_on_disks(scene),
        *_said(scene),
    ]


def _files(warehouse: Path) -> Iterator[str]:
    for path in (warehouse / "landing").glob("*/*/*.parquet"):
        try:
            read_whole(path, path.parent.parent.name)
        except ValueError as error:
            yield f"{path.relative_to(warehouse)} is visible and broken: {error}"


def _rows(scene: Scene, ledger: Ledger, run: str) -> Iterator[str]:
    with connect(scene.warehouse) as connection:

        def ask(sql: str) -> list[tuple[object, ...]]:
            return list(connection.execute(sql).fetchall())

        (found,) = ask(f"SELECT run_id, trials FROM runs WHERE run = '{run}'") or [(None, 0)]  # noqa: S608 - our own
        run_id, planned = str(found[0]), found[1]
        if not planned:
            yield "the run has no planned trials"
        yield from (f"quarantined: {row}" for row in ask("SELECT * FROM quarantined"))
        twice = ask("SELECT run_id, trial_id, count(*) FROM trials GROUP BY ALL HAVING count(*) > 1")
        yield from (f"trial {row} is counted twice" for row in twice)
        twice = ask("SELECT run_id, trial_id, attempt, count(*) FROM attempts GROUP BY ALL HAVING count(*) > 1")
        yield from (f"attempt {row} is there twice" for row in twice)
        rows = ask(f"SELECT trial_id, outcome FROM trials WHERE run_id = '{run_id}'")  # noqa: S608 - our own
        trials = {str(trial): str(outcome) for trial, outcome in rows}
        if len(trials) != planned:
            yield f"of {planned} planned trials {len(trials)} have a row"
        lost = {one for one in ledger.good(run_id) if trials.get(one) != "ok"}
        yield from (f"trial {one} was committed as ok, and counts as {trials.get(one)}" for one in sorted(lost))
        ((missing,),) = ask(f"SELECT sum(cells_missing) FROM coverage WHERE run_id = '{run_id}'")  # noqa: S608
        ((untold,),) = ask(
            f"SELECT count(*) FROM cells WHERE run_id = '{run_id}' AND trials = 0 AND outcome IN ('cancelled', 'lost')"  # noqa: S608
        )
        if missing or untold:
            yield f"{missing} cells have no trial, {untold} none that says something of them"
        for table in MEASURED:
            (stray,) = ask(
                f"SELECT count(*) FROM {table} ANTI JOIN attempts USING (run_id, trial_id, attempt)"  # noqa: S608
            )
            if stray[0]:
                yield f"{stray[0]} rows of {table} are of no committed attempt"
        yield from (f"the check {name} finds {rows} rows" for name, rows in failed_checks(connection).items())


def remnants(scene: Scene) -> list[Process]:
    """Processes of launches that are there now."""
    tables = {machine.table for machine in scene.everyone}
    return [
        one
        for one in look()
        if one.table in tables
        and (one.lease is not None or one.guards is not None or one.is_actor or one.title.startswith("ray::DeskActor"))
    ]


def _processes(scene: Scene) -> Iterator[str]:
    until = time.monotonic() + GONE_S
    while (left := remnants(scene)) and time.monotonic() < until:
        time.sleep(0.1)
    yield from (f"process {one.pid} is left: {one.title[:90]} (lease {one.lease or one.guards})" for one in left)


def _left_on_disks(scene: Scene) -> Iterator[str]:
    for machine in scene.machines:
        scratch = Path(f"/proc/{machine.pid}/root{machine.scratch}")
        left = [path.name for path in scratch.glob("fleetbench-*")]
        if len(left) > 1:  # what the last launch left is cleared by the next one
            yield f"{machine.name} has temporary folders of dead launches: {', '.join(left)}"


def _said(scene: Scene) -> Iterator[str]:
    for said in scene.said:
        for path in (said.out, said.err):
            if TRACEBACK in (text := path.read_text(errors="replace")):
                where = text.index(TRACEBACK)
                lines = re.sub(r"\s+", " ", text[where:][-300:])
                yield f"a traceback in {path.name} ({' '.join(said.words[:2])}): ...{lines}"
