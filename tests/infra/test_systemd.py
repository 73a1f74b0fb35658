"""The nightly's units: they fit each other, the command line and what the README installs."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import click
import pytest

from fleetbench.artifact.cache import default_cache
from fleetbench.cli.main import cli
from fleetbench.cli.submit import FAILED, INTERRUPTED

INFRA = Path(__file__).resolve().parents[2] / "infra"
SERVICE = INFRA / "systemd" / "fleetbench-nightly.service"
TIMER = INFRA / "systemd" / "fleetbench-nightly.timer"


class UnitFile(ConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr  # systemd's keys have a case


def unit(path: Path) -> ConfigParser:
    parser = UnitFile(interpolation=None, comment_prefixes=("#",), delimiters=("=",))
    parser.read_string(path.read_text())
    return parser


def submitted() -> click.Context:
    """ExecStart, as the command's own parser reads it."""
    _, name, *arguments = shlex.split(unit(SERVICE)["Service"]["ExecStart"])
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command.make_context(name, arguments)


def test_the_timer_starts_the_service_every_night() -> None:
    timer = unit(TIMER)
    assert timer["Timer"]["Unit"] == SERVICE.name
    assert timer["Install"]["WantedBy"] == "timers.target"


def test_the_service_submits_a_new_run() -> None:
    context = submitted()
    assert context.info_name == "submit"
    assert context.params["new"] is True


def test_warehouse_and_cache_are_the_folders_that_the_service_may_write() -> None:
    service = unit(SERVICE)["Service"]
    environment = dict(word.split("=", 1) for word in shlex.split(service["Environment"]))
    assert submitted().params["warehouse"] == Path("/var/lib", service["StateDirectory"])
    assert default_cache(environment) == Path("/var/cache", service["CacheDirectory"])


def test_failed_cells_fail_the_unit_and_a_wanted_stop_does_not() -> None:
    good = unit(SERVICE)["Service"]["SuccessExitStatus"].split()
    assert str(FAILED) not in good
    assert str(INTERRUPTED) in good


def test_the_readme_installs_what_the_service_names() -> None:
    service = unit(SERVICE)["Service"]
    program = Path(shlex.split(service["ExecStart"])[0])
    install = (INFRA / "README.md").read_text().split("```")[1].splitlines()
    wanted = {
        "useradd": service["User"],
        "venv": f"{program.parents[1]} ",
        "/etc/": str(submitted().params["matrix"]),
        "/systemd/system": f"{SERVICE.relative_to(INFRA.parent)} {TIMER.relative_to(INFRA.parent)}",
        "systemctl": TIMER.name,
    }
    commands = [line for line in install if line.startswith("sudo")]
    assert [any(key in line and text in line for line in commands) for key, text in wanted.items()] == [True] * 5


def systemd_analyze(*arguments: str | Path) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.tool
def test_systemd_finds_nothing_wrong_in_the_units(tmp_path: Path) -> None:
    program = shlex.split(unit(SERVICE)["Service"]["ExecStart"])[0]
    service, timer = tmp_path / SERVICE.name, tmp_path / TIMER.name
    service.write_text(SERVICE.read_text().replace(program, sys.executable))  # it must exist to be verified
    shutil.copy(TIMER, timer)
    said = systemd_analyze("verify", "--man=no", service, timer)
    assert [line for line in said.splitlines() if "fleetbench" in line] == []


@pytest.mark.tool
def test_the_timer_has_a_next_night() -> None:
    said = systemd_analyze("calendar", "--iterations=2", unit(TIMER)["Timer"]["OnCalendar"])
    assert "Next elapse: never" not in said
    assert "#2: " in said
