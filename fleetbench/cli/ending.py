"""What the user of a run that did not end well can do about it."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from fleetbench.cli.wish import Wish
from fleetbench.fleet.nodes.connection import AUTO
from fleetbench.fleet.progress import UNSETTLED
from fleetbench.matrix.types import Outcome
from fleetbench.plan.types import Refusal
from fleetbench.report.result import PAGE


def how_to_go_on(outcomes: Collection[Outcome | None], wish: Wish) -> str | None:
    """How many trials did not end well, and the command that runs them again; None where there is none.

    Args:
        outcomes: of every trial that was asked for; None of one that never had any.
        wish: what was asked.
    """
    bad = Counter(one for one in outcomes if one is not Outcome.OK)
    if not bad:
        return None
    said = ", ".join(f"{count} {one.value if one else 'not tried'}" for one, count in bad.most_common())
    lines = [f"{bad.total()} of {len(outcomes)} trials did not end well: {said}."]
    if wish.address != AUTO:  # a job's matrix is a file that is gone with it: who sent it says how to go on
        settled = any(one is not None and one not in UNSETTLED for one in bad)
        lines += ["Run them again with", f"  {wish.command(retry_failed=settled)}"]
    return "\n".join(lines)


def how_to_begin(refusals: Sequence[Refusal], wish: Wish) -> str:
    """What to do where every cell is refused, so that nothing can run."""
    steps = [
        textwrap.fill(step, PAGE, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
        for step in _steps({(one.verdict, one.rule) for one in refusals}, wish)
    ]
    return "\n".join(["Nothing was run. What to do:", *steps])


def _steps(refused: set[tuple[str, str]], wish: Wish) -> Iterator[str]:
    """By what refused."""
    if any(rule == "no-node" for _, rule in refused):
        if wish.address is None:
            yield "other hardware than `local` is on a cluster: name its head by --address HOST:PORT"
        else:
            wait = "" if wish.wait_s is not None else ", or wait for one to come (--wait-for-nodes 15m)"
            yield (
                f"see what is joined ({_nodes(wish.address)}), and join a node of the kind (on it: fleetbench node up "
                f"--address {_head(wish.address)}){wait}"
            )
    if any(verdict == "not_here" and rule != "no-node" for verdict, rule in refused):
        yield "see what the machine that is to measure lacks: fleetbench doctor, on it"
    if any(verdict == "excluded" for verdict, _ in refused):
        yield "take out what `exclude:` in the matrix leaves out"
    if any(verdict not in {"not_here", "excluded"} for verdict, _ in refused):
        yield f"change the matrix; each refused cell by its name: fleetbench plan {shlex.quote(str(wish.matrix))}"


def _nodes(address: str) -> str:
    return f"`fleetbench nodes --address {_head(address)}`"


def _head(address: str) -> str:
    """A job's user is at another machine, where `auto` means nothing."""
    return "HEAD:6379" if address == AUTO else address
