"""What analysts wait for, over 20,000 cells, 10 M requests and 100 M gaps: `make bench-warehouse`.

The warehouse is made by seed (nightly.py), landed and compacted night by night. Then every mart, quantiles merged from
sketches, and one cell's raw requests are asked; and the same questions of a folder with a JSON file a trial, read by
pandas, as is usual elsewhere: over some files, and so many times as long for all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq

from fleetbench import resources
from fleetbench.store.commit import Warehouse
from fleetbench.store.compact import compact
from fleetbench.store.connection import connect
from fleetbench.store.manifest import latest
from tests.bench import nightly

NIGHTS = 20
CELLS = 1000
LANDED = 500
"""Trials whose landing is timed one by one, and whose 1,000 files are compacted under the clock."""
TIMES = 7
MS, S = 1e3, 1.0
MERGED = """
WITH mine AS (SELECT hardware, recipe, itl_sketch AS sketch FROM sketches)
SELECT hardware, recipe, n, p50, p90, p99 FROM merged_quantiles(mine) ORDER BY ALL
"""
EXACT = """
SELECT hardware, recipe, quantile_cont(gap / 1e3, [0.5, 0.9, 0.99]) AS quantiles
FROM (SELECT run_id, trial_id, unnest(gaps_us) AS gap FROM requests)
INNER JOIN trials USING (run_id, trial_id)
WHERE hardware = 'h100'
GROUP BY ALL
ORDER BY ALL
"""
RAW = """
SELECT r.* FROM requests AS r
WHERE r.run_id = $run AND r.trial_id IN (SELECT trial_id FROM trials WHERE run_id = $run AND cell_id = $cell)
"""
PIVOT = "PIVOT (FROM cells WHERE batch = 64 AND context_tok = 1024) ON hardware USING avg(output_tok_s) GROUP BY recipe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A figure beside what is wanted of it; peer: how many times as long the peer takes."""

    what: str
    value: float
    unit: str
    wanted: float | None = None
    peer: float | None = None

    def __str__(self) -> str:
        met = "" if self.wanted is None else f"  {'met' if self.value <= self.wanted else 'MISSED'} ({self.wanted:g})"
        peer = "" if self.peer is None else f"  peer x {self.peer:,.0f}"
        return f"{self.what:<52}{self.value:11,.2f} {self.unit:<8}{met}{peer}"


def make(root: Path, *, nights: int, cells: int) -> Iterator[Line]:
    """Land and compact so many nights; of the last one some trials one by one, under the clock."""
    warehouse, of = Warehouse(root), nightly.cells(cells)
    warehouse.create()
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        for night in range(nights - 1):
            began = time.monotonic()
            parts = [of[n::cores] for n in range(cores)]
            list(pool.map(_commit, [root] * cores, [night] * cores, parts))
            compact(root, grace_s=0)
            print(f"night {night + 1} of {nights}: {time.monotonic() - began:.0f} s", file=sys.stderr)  # noqa: T201
    yield from _last_night(warehouse, nights - 1, of)


def _commit(root: Path, night: int, of: list[nightly.Cell]) -> int:
    return nightly.commit_night(Warehouse(root), night, of)


def _last_night(warehouse: Warehouse, night: int, of: list[nightly.Cell]) -> Iterator[Line]:
    made = nightly.trials(night, of)
    warehouse.commit("runs", [nightly.run_row(night, len(of))], run_id=nightly.run_id(night), name="run")
    some = [trial for _, trial in zip(range(LANDED), made, strict=False)]
    landing = [_took(lambda one=trial: warehouse.commit_trial(one.row, one.measured)) for trial in some]  # type: ignore[misc]
    yield Line(what="landing a trial of 250 requests, fsync included", value=_middle(landing, MS), unit="ms", wanted=15)
    took = _took(lambda: compact(warehouse.root))
    files = 2 * len(some) + 1
    yield Line(what=f"compaction of {files:,} landed files", value=took, unit="s", wanted=3 * files / 1000)
    for trial in made:
        warehouse.commit_trial(trial.row, trial.measured)
    compact(warehouse.root, grace_s=0)


def ask(root: Path) -> Iterator[Line]:
    """The marts, the sketches, raw rows and the bytes of a gap."""
    took = _repeated(lambda: connect(root).close())
    yield Line(what="connecting", value=_middle(took, S), unit="s")
    took = _repeated(lambda: _first(root), times=3)
    yield Line(what="connecting, and the first question: all of cmp_recipe", value=_middle(took, S), unit="s")
    with connect(root) as connection:
        connection.execute("SET VARIABLE unproven = true")  # nobody judged these recipes, and fronts leave such out
        asked = "SELECT count(*), (SELECT count(*) FROM requests), (SELECT sum(len(gaps_us)) FROM requests) FROM cells"
        ((cells, requests, gaps),) = connection.execute(asked).fetchall()
        yield Line(what="cells", value=cells, unit="")
        yield Line(what="requests", value=requests / 1e6, unit="M")
        yield Line(what="gaps", value=gaps / 1e6, unit="M")
        for mart in sorted(path.stem for path in (resources.root("warehouse") / "marts").glob("*.sql")):
            sql = f"FROM {mart}"
            took = _repeated(lambda sql=sql: _fetch(connection, sql))  # type: ignore[misc]
            yield Line(what=f"all of {mart}", value=_middle(took, MS), unit="ms", wanted=50)
        took = _repeated(lambda: _fetch(connection, MERGED), times=3)
        yield Line(what="ITL quantiles of hardware x recipe, merged", value=_middle(took, S), unit="s", wanted=0.5)
        yield Line(what="  their worst error", value=100 * _error(connection), unit="%", wanted=1.0)
        one = {"run": nightly.run_id(0), "cell": nightly.cells(1)[0].cell_id}
        took = _repeated(lambda: _fetch(connection, RAW, one))
        yield Line(what="the raw requests of one cell", value=_middle(took, MS), unit="ms", wanted=20)
    yield Line(what="bytes of a gap, compacted", value=_gap_bytes(root) / gaps, unit="B", wanted=1.8)
    size = sum(path.stat().st_size for path in root.rglob("*.parquet"))
    yield Line(what="the whole warehouse", value=size / 1e6, unit="MB")


def beside(root: Path, folder: Path, files: int) -> Iterator[Line]:
    """The same questions of a JSON file a trial, by pandas; in the peer's column, how many times as long for all."""
    trials = _json_files(folder, files)
    with connect(root) as connection:
        ((all_trials,),) = connection.execute("SELECT count(*) FROM trials").fetchall()
        for what, sql, peer in (
            ("tok/s, hardware x recipe", PIVOT, _pivot_json),
            ("ITL quantiles of hardware x recipe", MERGED, _quantiles_json),
        ):
            ours = _middle(_repeated(lambda sql=sql: _fetch(connection, sql), times=3), MS)  # type: ignore[misc]
            theirs = _took(lambda peer=peer: peer(folder)) * all_trials / trials  # type: ignore[misc]
            yield Line(what=what, value=ours, unit="ms", peer=theirs * MS / ours)


def _json_files(folder: Path, files: int) -> int:
    """As serving benchmarks write them: one object a trial, its requests' lists in it."""
    folder.mkdir(parents=True)
    of = nightly.cells()[:: max(1, 2 * len(nightly.cells()) // files)]
    written = 0
    for trial in nightly.trials(0, of):
        rows = trial.measured["requests"]
        result = {
            **{name: trial.row[name] for name in ("hardware", "recipe", "batch", "context_tok", "output_tok_s")},
            "itls": [[gap / 1e6 for gap in gaps] for gaps in rows["gaps_us"].to_pylist()],
            "ttfts": [at / 1e9 for at in rows["first_token_ns"].to_pylist()],
        }
        (folder / f"{written:06}.json").write_text(json.dumps(result))
        written += 1
    return written


def _pivot_json(folder: Path) -> pd.DataFrame:
    rows = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    frame = pd.DataFrame([{key: value for key, value in row.items() if key not in ("itls", "ttfts")} for row in rows])
    return frame.pivot_table(index="recipe", columns="hardware", values="output_tok_s", aggfunc="mean")


def _quantiles_json(folder: Path) -> pd.DataFrame:
    frame = pd.DataFrame([json.loads(path.read_text()) for path in folder.glob("*.json")])
    gaps = frame[["hardware", "recipe", "itls"]].explode("itls").explode("itls")
    return gaps.astype({"itls": float}).groupby(["hardware", "recipe"])["itls"].quantile([0.5, 0.9, 0.99])


def _error(connection: duckdb.DuckDBPyConnection) -> float:
    """The most that a merged quantile is off the exact one, over one kind of hardware."""
    exact = {(hardware, recipe): found for hardware, recipe, found in connection.execute(EXACT).fetchall()}
    merged = {(row[0], row[1]): row[3:] for row in connection.execute(MERGED).fetchall()}
    pairs = [pair for key, found in exact.items() for pair in zip(merged[key], found, strict=True)]
    return max(abs(float(got) / float(right) - 1) for got, right in pairs)


def _gap_bytes(root: Path) -> int:
    manifest = latest(root).manifest
    found = 0
    for file in manifest.files if manifest else ():
        if file.table == "requests":
            said = pq.read_metadata(root / file.path)
            groups = [said.row_group(n) for n in range(said.num_row_groups)]
            columns = [group.column(n) for group in groups for n in range(group.num_columns)]
            found += sum(one.total_compressed_size for one in columns if one.path_in_schema.startswith("gaps_us"))
    return found


def _first(root: Path) -> None:
    with connect(root) as connection:
        _fetch(connection, "FROM cmp_recipe")


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str, parameters: dict[str, Any] | None = None) -> None:
    connection.execute(sql, parameters or {})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Arrow output on a DB-API result", category=UserWarning)
        connection.to_arrow_table()


def _took(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _repeated(act: Callable[[], object], times: int = TIMES) -> list[float]:
    return [_took(act) for _ in range(times)]


def _middle(seconds: list[float], unit: float) -> float:
    return statistics.median(seconds) * unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=NIGHTS, help=f"of {CELLS:,} cells, two trials each")
    parser.add_argument("--cells", type=int, default=CELLS, help="a night")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-warehouse"), help="made anew, then kept")
    parser.add_argument("--keep", action="store_true", help="ask the warehouse that is there")
    parser.add_argument("--peer-files", type=int, default=400, help="JSON files that the peer reads")
    parser.add_argument("--json", type=Path, help="the figures, also as JSON")
    given = parser.parse_args()
    root, folder = given.folder / "warehouse", given.folder / "json"
    found: list[Line] = []

    def show(lines: Iterator[Line]) -> None:
        for line in lines:
            found.append(line)
            print(line, flush=True)  # noqa: T201 - a program's output

    shutil.rmtree(folder if given.keep else given.folder, ignore_errors=True)
    if not given.keep:
        show(make(root, nights=given.nights, cells=given.cells))
    show(ask(root))
    show(beside(root, folder, given.peer_files))
    if given.json:
        given.json.write_text(json.dumps([asdict(line) for line in found], indent=1))


if __name__ == "__main__":
    main()
