"""Compares this project's load generator with others, each against the truth server. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path

from tests.bench.figures import Run, figures, sent
from tests.bench.peers import Ask, Tool, ours, peers
from tests.bench.scenario import PROMPT_TOK, SCENARIOS, VARIANTS, Scenario, quick
from tests.bench.table import table
from tests.bench.tokenizer import write_tokenizer
from tests.bench.tree import Usage, pinned, run
from tests.truth.run import PYTHON, build, serve

BUILD = Path("build")
_LAST_LINE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Who runs where. The sampler shares the server's core where there are only two: the server's stamps stay true."""

    server: int
    sampler: int
    clients: frozenset[int]

    @classmethod
    def split(cls, usable: set[int]) -> Cores:
        """The last core is the server's.

        Raises:
            ValueError: there are not two.
        """
        least, spare = 2, 3
        if len(usable) < least:
            raise ValueError("the server and the client need a core each: this machine has one")
        ordered = sorted(usable)
        sampler = ordered[-2] if len(usable) >= spare else ordered[-1]
        return cls(
            server=ordered[-1], sampler=sampler, clients=frozenset(ordered[: -2 if len(usable) >= spare else -1])
        )

    def __str__(self) -> str:
        shared = ", which the sampler shares" if self.sampler == self.server else f", the sampler core {self.sampler}"
        return f"clients on {sorted(self.clients)}, the server on core {self.server}{shared}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all runs have in common."""

    server: Sequence[str]
    tokenizer: Path
    cores: Cores
    limit_s: float

    def measure(self, scenario: Scenario, tool: Tool, turn: int) -> Run:
        """One run, on a fresh server."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            with pinned({self.cores.server}):
                server = stack.enter_context(serve(self.server, log=True, **scenario.knobs))
            usage = self._drive(scenario, tool, server.url, folder)
            log = [request for request in server.stop().log if request.status == HTTPStatus.OK]
            try:
                reported = tool.read(folder)
            except (OSError, LookupError, TypeError, ValueError) as error:
                failure = self._failure(usage, folder, error)
                return Run(scenario=scenario.name, tool=tool.name, turn=turn, failure=failure)
        lead = max(0, len(log) - scenario.streams) if reported.lead is None else reported.lead
        true = sent(log, lead=lead, itl_is_mean=tool.itl_is_mean)
        if true is None:
            failure = "the server sent no answer of two tokens"
            return Run(scenario=scenario.name, tool=tool.name, turn=turn, failure=failure)
        return figures(
            scenario=scenario.name,
            tool=tool.name,
            turn=turn,
            paced=scenario.paced,
            itl_is_mean=tool.itl_is_mean,
            usage=usage,
            reported=reported,
            true=true,
        )

    def _drive(self, scenario: Scenario, tool: Tool, url: str, folder: Path) -> Usage:
        ask = Ask(
            url=url,
            streams=scenario.streams,
            requests=scenario.streams,
            prompt_tok=PROMPT_TOK,
            output_tok=scenario.output_tok,
            tokenizer=self.tokenizer,
        )
        for name, text in tool.files(ask).items():
            (folder / name).write_text(text, encoding="utf-8")
        return run(
            [*tool.program, *tool.command(ask)],
            cores={*self.cores.clients, self.cores.server} if tool.shares_cores else set(self.cores.clients),
            folder=folder,
            environment=tool.environment,
            limit_s=self.limit_s,
        )

    def _failure(self, usage: Usage, folder: Path, error: Exception) -> str:
        if usage.returncode is None:
            return f"no result in {self.limit_s:g} s"
        said = (folder / "stderr").read_text(encoding="utf-8", errors="replace").strip() or "nothing on stderr"
        why = "" if isinstance(error, OSError) else f", {type(error).__name__}: {error}"
        return f"no result (exit {usage.returncode}{why}): {said.splitlines()[-1][:_LAST_LINE]}"


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _arguments().parse_args(arguments)
    scenarios = [
        scenario
        for scenario in (quick() if asked.quick else SCENARIOS)
        if not asked.scenario or scenario.name in asked.scenario
    ]
    server = build(BUILD / "bench")
    if server == list(PYTHON):
        sys.exit("make bench-load needs gcc: the truth server in Python is slower than what it would measure")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    cores = Cores.split(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores.sampler})
    tools = _usable(asked)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(
            server=[str(Path(server[0]).resolve())],
            tokenizer=write_tokenizer(Path(folder)),
            cores=cores,
            limit_s=asked.limit,
        )
        runs = _measured(bench, scenarios, [tool for tool, _ in tools], asked.repeat)
    if asked.json:
        machine = {"cores": str(cores), "kernel": platform.release(), "processor": _processor()}
        versions = {tool.name: version for tool, version in tools}
        content = {"machine": machine, "tools": versions, "runs": [asdict(run) for run in runs]}
        asked.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    sys.stdout.write(table(scenarios, runs, cores=str(cores)))
    return 0 if any(run.failure is None for run in runs) else 1


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench-load", description=__doc__)
    parser.add_argument("--repeat", type=int, default=1, help="turns; each runs all tools in all scenarios")
    parser.add_argument("--quick", action="store_true", help="three scenarios with short answers")
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", action="append", choices=names, help="only this one (may be repeated)")
    names = [peer.name for peer in peers(Path())]
    parser.add_argument(
        "--tool", action="append", choices=[*names, "none"], help="only ours and this one (may be repeated)"
    )
    parser.add_argument("--ours", default=".venv/bin/fleetbench", help="our program; may have arguments")
    parser.add_argument("--peers", type=Path, default=BUILD / "peers", help="folder of the peers' environments")
    parser.add_argument("--limit", type=float, default=300, metavar="S", help="seconds a run may take")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all runs there")
    return parser


def _usable(asked: argparse.Namespace) -> list[tuple[Tool, str]]:
    """The tools that are there, with their versions; of each other one a word on stderr."""
    first, *rest = shlex.split(asked.ours)
    own = ours([str(Path(first).absolute()) if "/" in first else first, *rest])
    known = [
        own,
        ours(own.program, name="user stamps", options=("--stamp", "user")),
        ours(own.program, name="2 processes", options=("--processes", "2"), shares_cores=True),
        *(peer for peer in peers(asked.peers.absolute()) if not asked.tool or peer.name in asked.tool),
    ]
    found = []
    for tool in known:
        version = tool.receipt()
        sys.stderr.write(f"{tool.name}: {version or 'not found, left out'}\n")
        if version is not None:
            found.append((tool, version))
    return found


def _measured(bench: Bench, scenarios: Sequence[Scenario], tools: Sequence[Tool], repeat: int) -> list[Run]:
    """Turn by turn; an interrupt ends it, and keeps what is there."""
    runs: list[Run] = []
    try:
        for turn in range(repeat):
            for scenario in scenarios:
                for tool in tools:
                    if tool.name not in VARIANTS or tool.name in scenario.variants:
                        sys.stderr.write(f"{turn + 1}/{repeat} {scenario.name} {tool.name}\n")
                        runs.append(bench.measure(scenario, tool, turn))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: the table has what was measured\n")
    return runs


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())
