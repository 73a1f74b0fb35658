"""Every command line of fleetbench's in infra/ is one that its own parser takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fleetbench.cli.main import cli
from tests.infra.files import INFRA, document, environment, strings, unit
from tests.infra.shell import commands

VALUES = {"@": "matrix.yaml", "RAY_HEAD_IP": "192.0.2.10", "RAY_ADDRESS": "192.0.2.10:6379", "HOME": "/home/fleetbench"}
VALUES |= {"options[@]": "--pool=lab"}
LEAST = {"README.md": 5, "images": 2, "kuberay": 2, "ray": 3, "slurm": 2, "systemd": 3}


def in_file(path: Path) -> Iterator[list[str]]:
    match path.suffix:
        case ".service":
            settings = path.with_suffix(".env")
            values = environment(settings) if settings.exists() else {}
            yield from commands(unit(path)["Service"]["ExecStart"], "fleetbench", VALUES | values)
        case ".yaml":
            for text in strings(document(path)):
                yield from commands(text, "fleetbench", VALUES)
        case ".Dockerfile":
            said = dict(re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", path.read_text(), re.MULTILINE))
            yield from commands(
                " ".join(json.loads(said["ENTRYPOINT"])[2:] + json.loads(said["CMD"])), "fleetbench", {}
            )
        case ".md":
            for block in re.findall(r"```sh\n(.*?)```", path.read_text().replace("\\\n", " "), re.DOTALL):
                inside = re.sub(r"docker run .*? fleetbench-node-\w+ ", "fleetbench ", block)
                yield from commands(inside, "fleetbench", VALUES)
        case ".sh" | ".sbatch":
            text = re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.MULTILINE)
            yield from commands(text, "fleetbench", VALUES)


FOUND = [(path, words) for path in sorted(INFRA.rglob("*.*")) for words in in_file(path)]


def parse(words: list[str]) -> click.Context:
    """As `fleetbench WORDS` does, up to where it would begin."""
    command: click.Command = cli
    said: list[str] = ["fleetbench"]
    context = click.Context(cli, info_name="fleetbench")
    while isinstance(command, click.Group):
        try:
            found = command.get_command(context, words[0])
        except ImportError as error:
            pytest.fail(f"`{' '.join([*said, words[0]])}` is named in infra/, and is not built yet: {error}")
        if found is None:
            pytest.fail(f"`{' '.join([*said, words[0]])}` is named in infra/, and there is no such command")
        said, command, words = [*said, words[0]], found, words[1:]
        context = click.Context(command, info_name=said[-1], parent=context)
    return command.make_context(said[-1], words, parent=context.parent)


@pytest.mark.parametrize(
    ("path", "words"), FOUND, ids=[f"{path.relative_to(INFRA)}: {' '.join(words)}" for path, words in FOUND]
)
def test_fleetbench_takes_it(path: Path, words: list[str]) -> None:
    try:
        parse(words)
    except click.UsageError as error:
        pytest.fail(f"{path.relative_to(INFRA)}: fleetbench {' '.join(words)}: {error.format_message()}")


def test_they_were_found_in_every_place() -> None:
    places = [path.relative_to(INFRA).parts[0] for path, _ in FOUND]
    assert {place: places.count(place) for place in LEAST if places.count(place) < LEAST[place]} == {}


def test_a_flag_that_does_not_exist_is_found() -> None:
    (words,) = commands("sudo /opt/fleetbench/bin/fleetbench submit m.yaml --warehose /srv | tee log", "fleetbench", {})
    with pytest.raises(click.NoSuchOption):
        parse(words)
