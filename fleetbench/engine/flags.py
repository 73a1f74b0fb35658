"""Which flags an engine's server takes, by version: a flag that is not there is refused before a start, not after."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path

import yaml

from fleetbench.engine.protocol import Cause, EngineAdapter, LaunchError, LaunchSpec

FLAG = re.compile(r"(--[A-Za-z]|-[A-Za-z](?=$|[a-z=]))[\w.-]*(?=$|=)")
UNVERIFIED = " (as recorded, not checked against a release)"
FOLDER = Path("/")  # a start that is only judged writes nothing there
PORT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What was recorded of one engine.

    versions: flags by version, ascending, and of some flags the values, as `--flag=value`; below: the first version
    that is not covered; source: where they were read; verified: whether that was a release of it.
    """

    engine: str
    source: str
    verified: bool
    below: str
    versions: Mapping[str, frozenset[str]]


class FlagError(LaunchError):
    """What a version does not take, by what is recorded of it."""


@functools.cache
def recorded(engine: str) -> Recorded | None:
    """None for an engine of which no flags are recorded, which then is not checked."""
    file = resources.files("fleetbench.engine") / "known_flags" / f"{engine}.yaml"
    if not file.is_file():
        return None
    data = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
    versions: dict[str, frozenset[str]] = {}
    flags: frozenset[str] = frozenset()
    for version, changed in data["versions"].items():
        flags = (flags | set(changed.get("gained", "").split())) - set(changed.get("lost", "").split())
        versions[version] = flags
    return Recorded(
        engine=data["engine"],
        source=data["source"],
        verified=data["verified"],
        below=data["below"],
        versions=versions,
    )


def known(engine: str, version: str) -> frozenset[str]:
    """The flags of this version, or of the nearest recorded one before it.

    Raises:
        FlagError: `unsupported`, of a version outside those that are covered.
    """
    found = recorded(engine)
    if found is None:
        raise LaunchError(engine, "unsupported", f"no flags of {engine} are recorded", "")
    asked = _number(version)
    fitting = [name for name in found.versions if _number(name) <= asked]
    if not fitting or asked >= _number(found.below):
        first = next(iter(found.versions))
        reason = f"version {version} of it is not supported: its flags are known from {first} to below {found.below}"
        raise FlagError(engine, "unsupported", reason, "")
    return found.versions[fitting[-1]]


def missing(engine: str, version: str, argv: Sequence[str]) -> tuple[str, ...]:
    """Flags in a command line that this version does not take, in order; raises as `known`.

    A flag may be written with underscores or with the keys of a JSON value after it, as vLLM allows.
    """
    flags = known(engine, version)
    asked = [found[0] for word in argv if (found := FLAG.match(word))]
    return tuple(flag for flag in asked if not _spellings(engine, flag) & flags)


def check(engine: str, version: str, argv: Sequence[str], more: Sequence[str] = ()) -> None:
    """Refuses what this version does not take.

    Args:
        engine: its name.
        version: of the package.
        argv: the adapter's own words; of them values are judged too.
        more: words of the node or the matrix, of which plugins may know values that the engine does not.

    Raises:
        FlagError: `arguments`, of a flag; `unsupported`, of a format.
    """
    known_here = known(engine, version)
    valued = _valued(known_here)
    for flag, value in pairwise(argv):
        if flag in valued and f"{flag}={value}" not in known_here:
            raise _lacks(engine, version, "unsupported", f"{flag} {value}")
    lacking = missing(engine, version, (*argv, *more))
    if not lacking:
        return
    near = difflib.get_close_matches(lacking[0], sorted(name for name in known_here if "=" not in name), 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise _lacks(engine, version, "arguments", f"{', '.join(lacking)}{hint}")


def _lacks(engine: str, version: str, cause: Cause, what: str) -> FlagError:
    found = recorded(engine)
    doubt = "" if found is not None and found.verified else UNVERIFIED
    return FlagError(engine, cause, f"version {version} of it has no {what}{doubt}", "")


@functools.cache
def _valued(known_here: frozenset[str]) -> frozenset[str]:
    """The flags of which the values are on record."""
    return frozenset(name.partition("=")[0] for name in known_here if "=" in name)


def refusal(adapter: EngineAdapter, spec: LaunchSpec, version: str) -> tuple[str, str] | None:
    """Why this version cannot be started so, in a sentence, and who says so; None where nothing is missing."""
    try:
        adapter.command(spec, version, FOLDER, PORT)
    except FlagError as error:
        found = recorded(error.engine)
        return error.reason, found.source if found else f"the adapter of {adapter.name}"
    except LaunchError as error:
        return error.reason, f"the adapter of {adapter.name}"
    return None


def _spellings(engine: str, flag: str) -> set[str]:
    if engine != "vllm":
        return {flag}
    return {flag, flag.replace("_", "-"), flag.partition(".")[0].replace("_", "-")}


def _number(version: str) -> tuple[int, ...]:
    """The release, comparable: `0.32.0+cpu` and `0.32.0` are the same, `1.2` comes before `1.2.1`."""
    public = version.partition("+")[0]
    found = re.match(r"\d+(\.\d+)*", public)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
