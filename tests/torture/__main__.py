"""`python -m tests.torture --seed N --kills 200`: hurts a real fleet at moments that a seed chooses, and looks."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fleetbench.fleet.progress import UNSETTLED
from fleetbench.store.connection import connect
from tests.torture.aiming import wait_for
from tests.torture.blows import Blows
from tests.torture.checks import breaches
from tests.torture.ledger import Ledger
from tests.torture.machine import apart, lacks
from tests.torture.moments import KINDS, MORE_KINDS, moment
from tests.torture.scene import Drivers, Said, Scene

INSIDE = "FLEETBENCH_TORTURE_INSIDE"
FIRST_TRIAL_S = 90.0
END_S = 400.0
"""A run that nobody hurts any more ends within this."""
FLEETS = {
    "short": ((("h100", True), ("a100-80g", False)), "sim-h100, sim-a100-80g", 3, 2, 16),
    "long": (
        (("h100", True), ("h100", False), ("a100-80g", True), ("a100-80g", False)),
        "sim-h100, sim-a100-80g",
        7,
        2,
        24,
    ),
}


@dataclass(kw_only=True)
class Torture:
    """One call of the harness; number: of the next moment."""

    options: argparse.Namespace
    scene: Scene
    ledger: Ledger
    number: int = 0
    phase: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    remeasured: int = 0
    violations: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        text = f"{time.strftime('%H:%M:%S')} {line}"
        print(text, flush=True)  # noqa: T201 - what it is for
        with (self.scene.folder / "torture.log").open("a") as file:
            file.write(text + "\n")

    def run(self) -> None:
        while not self._is_enough() and not self.violations:
            self.phase += 1
            self._phase(f"phase-{self.phase}")

    def _is_enough(self) -> bool:
        tried = sum(self.missed.values()) + sum(self.struck.values())
        return bool(sum(self.struck.values()) >= self.options.kills or tried >= self.options.moments)

    def _phase(self, run: str) -> None:
        """One run of the matrix: hurt until it ends or enough was done, then left in peace, and looked at."""
        drivers = Drivers(scene=self.scene, run=run)
        blows = Blows(scene=self.scene, drivers=drivers)
        self.say(f"{run}: submitting")
        began = time.monotonic()
        drivers.start()
        if self.options.fleet == "short":  # each moment has to count there
            wait_for("trial", self.scene, drivers, lambda _: True, FIRST_TRIAL_S)
        while not drivers.ended.is_set() and not self._is_enough():
            one = moment(self.options.seed, self.number, self.options.only, self.options.hurry)
            drivers.ended.wait(one.after_s)
            done = blows.strike(one)
            if done is None and drivers.ended.is_set():
                break
            self.number += 1
            (self.struck if done else self.missed)[one.kind] += 1
            self.say(f"{one}: {done or 'nothing to do it to'}")
            self._keep()
        blows.heal()
        if not drivers.ended.wait(END_S):
            self._violated(run, [f"the run has not ended {END_S:g} s after the last blow: {drivers.status()}"])
            drivers.abandoned.set()
            return
        took_s = time.monotonic() - began
        bad = [self._code(said, drivers, blows) for said in drivers.all]
        for machine in self.scene.everyone:  # the peace in which the same command has to do it all
            self.scene.wait_up(machine)
        again = self._once_more(run)
        bad += [*again, *breaches(self.scene, self.ledger, run)]
        self._violated(run, [one for one in bad if one])
        outcomes = self._outcomes(run)
        self.say(f"{run}: {took_s:.0f} s, {len(drivers.all)} controllers, {outcomes}")

    def _once_more(self, run: str) -> list[str]:
        """The same command again, in peace: what has an outcome stays as it is; and what failed goes well now.

        A short torture leaves the second away: it runs half of the matrix once more.
        """
        self.ledger.look()
        before = set(self.ledger.entries)
        settled = {entry.trial_id for entry in self.ledger.entries.values() if entry.outcome not in UNSETTLED}
        bad = self._resubmit(run, (0, 1))
        self.ledger.look()
        bad += [
            f"{path.name} was measured again though its trial was settled"
            for path in set(self.ledger.entries) - before
            if self.ledger.entries[path].trial_id in settled
        ]
        if self.options.fleet == "short":
            return bad
        return bad + self._resubmit(run, (0,), "--retry-failed", "--only", "kind = 'quality'")

    def _resubmit(self, run: str, wanted: tuple[int, ...], *options: str) -> list[str]:
        process, said = self.scene.submit(run, *options)
        try:
            said.code = process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            return [f"the same command again has not ended after {END_S:g} s (see {said.err})"]
        self.exits[f"again {said.code}"] += 1
        if said.code in wanted:
            return []
        return [f"the same command again, in peace, ended with {said.code}: {said.last} (see {said.err})"]

    def _code(self, said: Said, drivers: Drivers, blows: Blows) -> str | None:
        """What is wrong with how a controller ended."""
        code, pid, err = said.code, said.pid, said.err
        self.exits[str(code)] += 1
        if (code in (0, 1) and said.ended) or (code in (-9, 137) and pid in drivers.shot):
            return None
        if code == 4 and (blows.full_s or blows.headless):
            return None
        if code == 1 and blows.headless:  # Ray ends a process that is just connecting by itself
            return None
        return f"a controller ended with {code}, which nobody did to it (see {err})"

    def _outcomes(self, run: str) -> str:
        with connect(self.scene.warehouse) as connection:
            rows = connection.execute(
                "SELECT a.outcome, count(*) FROM attempts AS a JOIN runs USING (run_id) "
                "WHERE run = ? GROUP BY ALL ORDER BY ALL",
                [run],
            ).fetchall()
            (twice,) = connection.execute(
                "SELECT count(*) FROM (SELECT trial_id FROM attempts JOIN runs USING (run_id) WHERE run = ? AND "
                "attempts.outcome = 'ok' AND valid GROUP BY trial_id HAVING count(*) > 1)",
                [run],
            ).fetchall()
        self.remeasured += int(twice[0])
        return ", ".join(f"{count} {outcome}" for outcome, count in rows) + f"; {twice[0]} measured twice"

    def _violated(self, run: str, found: list[str]) -> None:
        for one in found:
            self.violations.append(one)
            self.say(f"VIOLATION in {run}, seed {self.options.seed}, up to moment {self.number - 1}: {one}")

    def _keep(self) -> None:
        (self.scene.folder / "state.json").write_text(
            json.dumps({"seed": self.options.seed, "number": self.number, "phase": self.phase, "struck": self.struck})
        )

    def report(self) -> int:
        kinds = ", ".join(f"{kind} {self.struck[kind]}" for kind in self.options.only)
        self.say(f"{sum(self.struck.values())} moments of seed {self.options.seed}: {kinds}")
        self.say(f"missed {dict(self.missed)}, controllers' ends {dict(self.exits)}, measured twice {self.remeasured}")
        if self.violations:
            first = f"--seed {self.options.seed} --resume {self.scene.folder}"
            self.say(f"{len(self.violations)} violations; goes on by: python -m tests.torture {first}")
            return 1
        self.say("no violation")
        return 0


def main() -> int:
    options = _options()
    if why := lacks() if INSIDE not in os.environ else None:
        print(f"cannot torture here: {why}", file=sys.stderr)  # noqa: T201
        return 4
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "1"
        command = apart([sys.executable, "-m", "tests.torture", *sys.argv[1:]])
        os.execvp(command[0], command)  # noqa: S606 - an argument list
    folder = options.resume or Path(tempfile.mkdtemp(prefix="fb-torture-", dir="/tmp"))
    nodes, hardware, recipes, repeats, requests = FLEETS[options.fleet]
    scene = Scene(folder=folder, seed=options.seed, nodes=nodes)
    torture = Torture(options=options, scene=scene, ledger=Ledger(scene.warehouse), number=options.first)
    if options.resume and (kept := folder / "state.json").exists():
        state = json.loads(kept.read_text())
        torture.number, torture.phase = state["number"], state["phase"]
        torture.struck.update(state["struck"])
    torture.say(f"seed {options.seed}, {options.kills} moments, in {folder}")
    code = 1
    try:
        scene.begin(hardware, recipes, repeats, requests)
        torture.say("the fleet is up")
        torture.ledger.start()
        torture.run()
        code = torture.report()
    finally:
        torture.ledger.stop()
        scene.end()
        if code == 0 and not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"kept {folder}", flush=True)  # noqa: T201
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides kinds, moments and targets")
    parser.add_argument("--kills", type=int, default=200, help="blows that hit something, in all")
    parser.add_argument("--moments", type=int, default=1 << 30, help="moments at most, those that hit nothing too")
    parser.add_argument("--first", type=int, default=0, help="number of the first moment: replays a part of a seed")
    parser.add_argument("--only", type=_kinds, default=KINDS, help=f"of {','.join((*KINDS, *MORE_KINDS))}")
    parser.add_argument("--hurry", type=float, default=1.0, help="factor on the pauses between moments")
    parser.add_argument("--fleet", choices=sorted(FLEETS), default="long")
    parser.add_argument("--resume", type=Path, help="folder of an earlier call: goes on with its next moment")
    parser.add_argument("--keep", action="store_true", help="keep the folder also where nothing was found")
    return parser.parse_args()


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if unknown := set(kinds) - {*KINDS, *MORE_KINDS}:
        raise argparse.ArgumentTypeError(f"no kind {', '.join(sorted(unknown))}")
    return kinds


if __name__ == "__main__":
    sys.exit(main())
