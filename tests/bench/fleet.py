"""The order of launches on a large fleet, simulated: `make bench-fleet`.

256 nodes of 8 GPUs in four kinds, 100,000 cells in 15,000 launches of 1, 2, 4 and 8 GPUs, times over two decades and
known within 30 %, the work of each kind at least five times its longest launch. The makespan is to be within 1.05 of
its lower bound, of each kind and of all, the state machine's CPU below 1 ms a cell, within 60 s and 2 GB.
"""

from __future__ import annotations

import argparse
import math
import random
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fleetbench.fleet.simulation.schedule import KindShare, Simulation
from fleetbench.fleet.simulation.simulator import World, nodes_of, simulate
from fleetbench.fleet.simulation.times import Times
from fleetbench.matrix.types import Cell, EngineInfo, KvFormat, LoadPoint, ModelInfo, Outcome, Parallel, Recipe
from fleetbench.plan.nodes import Use
from fleetbench.plan.rules import Order, Rules
from fleetbench.plan.types import EngineLaunch, Fleet, NodeKind, Trial

KINDS = ("a100-80g", "h100", "b200", "mi300x")
SIZES = (1, 2, 4, 8)
DECADES = 2.0
START_SHARE = 0.1
"""Of a launch's time, until its engine is up."""
ORDERS: tuple[Order, ...] = ("balanced", "first-come")
_MODEL = ModelInfo(
    name="model", digest="0" * 64, max_context_tok=4096, vocab_tok=128, params=1, random_weights=True, suites=()
)
_ENGINE = EngineInfo(name="vllm", version="0.33.0", toolchain="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """nodes: of each kind; weights: how many launches have each of SIZES, in proportion."""

    name: str
    nodes: int = 64
    launches: int = 15_000
    cells: int = 100_000
    weights: Sequence[float] = (1, 1, 1, 1)
    use: Use = "shared"


SCENARIOS = (
    Scenario(name="issue"),
    Scenario(name="few-nodes", nodes=4, launches=1_000, cells=7_000),
    Scenario(name="whole", use="whole"),
    Scenario(name="mostly-8", weights=(1, 1, 1, 12)),
    Scenario(name="mostly-1", weights=(12, 1, 1, 1), launches=30_000),
    Scenario(name="few-mostly-8", nodes=4, launches=1_000, cells=7_000, weights=(1, 1, 1, 12)),
    Scenario(name="few-mostly-1", nodes=4, launches=2_000, cells=14_000, weights=(12, 1, 1, 1)),
    Scenario(name="few-whole", nodes=4, launches=1_000, cells=7_000, use="whole"),
)


def work(scenario: Scenario, seed: int) -> tuple[list[EngineLaunch], dict[str, Times]]:
    """Launches and their estimated times, log-uniform over the decades."""
    rng = random.Random(seed)  # noqa: S311 - repeatable
    launches: list[EngineLaunch] = []
    times: dict[str, Times] = {}
    for number in range(scenario.launches):
        kind = KINDS[number % len(KINDS)]
        gpus = rng.choices(SIZES, scenario.weights)[0]
        cells = scenario.cells * (number + 1) // scenario.launches - scenario.cells * number // scenario.launches
        total_s = 60.0 * 10 ** rng.uniform(0, DECADES)
        one = _launch(f"{number:05d}", kind, gpus, cells, artifact=rng.randrange(400))
        shares = [rng.uniform(0.5, 1.5) for _ in one.trials]
        rest = (1 - START_SHARE) * total_s / sum(shares)
        launches.append(one)
        times[one.launch_id] = Times(
            start_s=START_SHARE * total_s,
            trials_s={trial.trial_id: share * rest for trial, share in zip(one.trials, shares, strict=True)},
        )
    return launches, times


def _launch(name: str, hardware: str, gpus: int, cells: int, *, artifact: int) -> EngineLaunch:
    recipe = Recipe(name=f"recipe-{artifact % 10}", weights="fp8", kv=KvFormat())
    trials = tuple(
        Trial(
            trial_id=f"{name}-{number}",
            cell=Cell(
                cell_id=f"{name}-{number}",
                model=_MODEL,
                recipe=recipe,
                engine=_ENGINE,
                hardware=hardware,
                parallel=Parallel(tp=gpus),
                work=LoadPoint(batch=1, context_tok=64, output_tok=32),
                artifact_id=f"artifact-{artifact}",
                seed=0,
                reference=False,
            ),
            repeat=0,
            role="measure",
        )
        for number in range(cells)
    )
    return EngineLaunch(
        launch_id=name,
        role="measure",
        model=_MODEL,
        recipe=recipe,
        engine=_ENGINE,
        hardware=hardware,
        parallel=Parallel(tp=gpus),
        artifact_id=f"artifact-{artifact}",
        slots=1,
        slot_tok=96,
        trials=trials,
    )


def fleet(scenario: Scenario) -> Fleet:
    engines = {"vllm": "0.33.0"}
    kinds = {
        name: NodeKind(hardware=name, gpus=8, nodes=scenario.nodes, engines=engines, use=scenario.use) for name in KINDS
    }
    return Fleet(kinds=kinds, about="the benchmark's")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Makespan over bound, of all and by kind; slack: work over GPUs by the longest launch, of the kind with the least.

    cpu_us: of the state machine, a cell.
    """

    overall: float
    kinds: tuple[float, ...]
    slack: float
    cpu_us: float
    wall_s: float

    @staticmethod
    def worst(found: Sequence[Figures]) -> Figures:
        return Figures(
            overall=max(one.overall for one in found),
            kinds=tuple(max(ratios) for ratios in zip(*(one.kinds for one in found), strict=True)),
            slack=min(one.slack for one in found),
            cpu_us=max(one.cpu_us for one in found),
            wall_s=max(one.wall_s for one in found),
        )


def measure(scenario: Scenario, order: Order, seed: int) -> Figures:
    began = time.monotonic()
    launches, times = work(scenario, seed)
    nodes = nodes_of(fleet(scenario))
    found = simulate(launches, nodes, times, rules=Rules(order=order), world=World(seed=seed))
    if found.outcomes != {Outcome.OK: found.trials} or found.cells != scenario.cells:
        raise SystemExit(f"{scenario.name}: of {scenario.cells} cells {found.outcomes}")
    return Figures(
        overall=found.ratio or math.inf,
        kinds=tuple(kind.ratio or math.inf for kind in found.kinds),
        slack=min(_slack(found, kind) for kind in found.kinds),
        cpu_us=1e6 * found.machine_cpu_s / found.cells,
        wall_s=time.monotonic() - began,
    )


def _slack(found: Simulation, kind: KindShare) -> float:
    bars = [bar for bar in found.bars if bar.launch.hardware == kind.hardware]
    return sum(bar.gpu_s for bar in bars) / kind.gpus / max(bar.seconds for bar in bars)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="as many runs of each, from seed 0; the worst is shown")
    parser.add_argument("--scenario", action="append", choices=[one.name for one in SCENARIOS], help="[default: issue]")
    parser.add_argument("--order", action="append", choices=ORDERS, help="[default: both]")
    given = parser.parse_args()
    print(f"makespan / lower bound, the worst of {given.seeds} seeds")  # noqa: T201 - a program's output
    kinds = "".join(f"{name:>10}" for name in KINDS)
    print(f"{'scenario':13} {'order':10} {'all':>7}{kinds}  slack  us/cell  wall s  peak MB")  # noqa: T201
    wanted = given.scenario or ["issue"]
    for scenario in (one for one in SCENARIOS if one.name in wanted):
        for order in given.order or ORDERS:
            worst = Figures.worst([measure(scenario, order, seed) for seed in range(given.seeds)])
            said = "".join(f"{ratio:10.4f}" for ratio in worst.kinds)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            print(  # noqa: T201
                f"{scenario.name:13} {order:10} {worst.overall:7.4f}{said}  {worst.slack:5.1f}  {worst.cpu_us:7.0f}  "
                f"{worst.wall_s:6.1f}  {peak:7.0f}"
            )


if __name__ == "__main__":
    main()
