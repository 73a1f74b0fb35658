"""A container file, read as far as a check needs: its instructions in order, and what it takes a base from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

KNOWN = frozenset(("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "LABEL", "RUN", "SHELL", "USER", "WORKDIR"))
"""Those that ours may use; ADD fetches, and EXPOSE, VOLUME and ONBUILD do things to whoever starts or extends it."""
PINNED = re.compile(r"[a-z0-9][a-z0-9._/-]*(:[A-Za-z0-9_][\w.-]*|@sha256:[0-9a-f]{64})")
SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)

Instruction = tuple[str, str]


def instructions(path: Path) -> list[Instruction]:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def mistakes(found: list[Instruction], root: Path) -> Iterator[str]:
    """What a build would stumble over, and what would make it another one tomorrow."""
    yield from (f"there is no instruction {name} here" for name, _ in found if name not in KNOWN)
    yield from _of_variables(found)
    for name, rest in found:
        if name == "COPY":
            yield from (f"COPY {source}: no such file" for source in rest.split()[:-1] if not (root / source).exists())
    user = [rest for name, rest in found if name == "USER"][-1:]
    if not user or not user[0].isdigit() or user == ["0"]:
        yield f"it ends as {user[0] if user else 'root'}, and not as a number other than root's"


def _of_variables(found: list[Instruction]) -> Iterator[str]:
    arguments: dict[str, str] = {}
    for name, rest in found:
        if name in ("ARG", "ENV"):
            given = dict(re.findall(r"(\w+)=(\S*)", rest))
            arguments |= given
            yield from (f"{name} {variable} would stay in the image" for variable in given if SECRET.search(variable))
        if name == "FROM":
            base = arguments.get(rest.strip("${}"), rest)
            if not PINNED.fullmatch(base) or base.endswith(":latest"):
                yield f"the base {base} has neither tag nor digest"
