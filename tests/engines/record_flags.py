"""Writes known_flags/ENGINE.yaml anew from wheels: python -m tests.engines.record_flags ENGINE WHEEL..."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

from fleetbench import engine
from tests.engines.wheel_flags import read_wheel

FOLDER = Path(engine.__path__[0]) / "known_flags"


def text(engine_name: str, wheels: dict[str, frozenset[str]], head: str) -> str:
    """The file: all flags of the oldest version, and what each later one has gained and lost."""
    lines = [head.rstrip("\n"), f"engine: {engine_name}", "versions:"]
    before: frozenset[str] = frozenset()
    for version, flags in wheels.items():
        lines.append(f'  "{version}":' if flags != before else f'  "{version}": {{}}')
        for name, changed in (("gained", flags - before), ("lost", before - flags)):
            if changed:
                wrapped = textwrap.wrap(" ".join(sorted(changed)), 110, break_on_hyphens=False, break_long_words=False)
                lines += [f"    {name}: >-", *(f"      {line}" for line in wrapped)]
        before = flags
    return "\n".join(lines) + "\n"


def main(engine_name: str, wheels: list[str]) -> None:
    found = {re.split(r"-", Path(wheel).name)[1]: read_wheel(Path(wheel)) for wheel in wheels}
    ordered = dict(sorted(found.items(), key=lambda item: [int(part) for part in re.findall(r"\d+", item[0])]))
    target = FOLDER / f"{engine_name}.yaml"
    head, _, _ = target.read_text().partition("engine: ")
    target.write_text(text(engine_name, ordered, head))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
