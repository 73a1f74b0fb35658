"""The units: they fit each other, the command line and what the README installs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fleetbench.artifact.cache import default_cache
from fleetbench.cli.main import cli
from fleetbench.cli.submit import FAILED, INTERRUPTED
from fleetbench.fleet.nodes import start as node_start
from tests.infra.files import INFRA, environment, unit

SERVICE = INFRA / "systemd" / "fleetbench-nightly.service"
TIMER = INFRA / "systemd" / "fleetbench-nightly.timer"
HEAD = INFRA / "systemd" / "fleetbench-head.service"
NODE = INFRA / "systemd" / "fleetbench-node.service"
JOINED = (HEAD, NODE)
each_joined = pytest.mark.parametrize("path", JOINED, ids=lambda path: path.stem)


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
    variables = dict(word.split("=", 1) for word in shlex.split(service["Environment"]))
    assert submitted().params["warehouse"] == Path("/var/lib", service["StateDirectory"])
    assert default_cache(variables) == Path("/var/cache", service["CacheDirectory"])


def test_failed_cells_fail_the_unit_and_a_wanted_stop_does_not() -> None:
    good = unit(SERVICE)["Service"]["SuccessExitStatus"].split()
    assert str(FAILED) not in good
    assert str(INTERRUPTED) in good


def blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (INFRA / "README.md").read_text(), re.DOTALL)


def test_the_readme_installs_what_the_service_names() -> None:
    service = unit(SERVICE)["Service"]
    program = Path(shlex.split(service["ExecStart"])[0])
    (install,) = [block for block in blocks() if "enable --now fleetbench-nightly.timer" in block]
    wanted = {
        "useradd": service["User"],
        "venv": f"{program.parents[1]} ",
        "/etc/": str(submitted().params["matrix"]),
        "/systemd/system": f"{SERVICE.relative_to(INFRA.parent)} {TIMER.relative_to(INFRA.parent)}",
        "systemctl": TIMER.name,
    }
    commands = [line for line in install.splitlines() if line.startswith("sudo")]
    assert [any(key in line and text in line for line in commands) for key, text in wanted.items()] == [True] * 5


def variables(path: Path) -> dict[str, str]:
    """Every Environment= of a unit."""
    lines = re.findall(r"^Environment=(.*)$", path.read_text(), re.MULTILINE)
    return dict(word.split("=", 1) for line in lines for word in shlex.split(line))


@each_joined
def test_what_it_is_started_with_is_in_its_environment_file(path: Path) -> None:
    used = set(re.findall(r"\$\{?(\w+)", unit(path)["Service"]["ExecStart"]))
    assert used == set(environment(path.with_suffix(".env")))


@each_joined
def test_the_readme_installs_its_files_where_it_reads_them(path: Path) -> None:
    service = unit(path)["Service"]
    install = "".join(block for block in blocks() if f"enable --now {path.name}" in block)
    assert f"{path.with_suffix('.env').relative_to(INFRA.parent)} {service['EnvironmentFile']}" in install
    token = variables(path)["RAY_AUTH_TOKEN_PATH"]
    assert f"-m 600 -o {service['User']} -g {service['Group']}" in install
    assert token in install
    assert variables(path)["RAY_AUTH_MODE"] == "token"
    assert variables(path)["FLEETBENCH_NODE"] in install


@each_joined
def test_its_folders_are_those_that_it_may_write_and_rays_is_short_enough(path: Path) -> None:
    service = unit(path)["Service"]
    place = Path(variables(path)["RAY_TMPDIR"])
    assert place == Path("/run", service["RuntimeDirectory"])
    assert len(str(place / "fleetbench-65534")) <= node_start._PLACE_ROOM
    assert default_cache(variables(path)) == Path("/var/cache", service["CacheDirectory"])


def test_a_machine_is_head_or_node() -> None:
    assert unit(HEAD)["Unit"]["Conflicts"] == NODE.name
    assert unit(NODE)["Unit"]["Conflicts"] == HEAD.name


def systemd_analyze(*arguments: str | Path) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def verify(texts: dict[str, str], folder: Path) -> list[str]:
    """What systemd says of units whose program exists."""
    for name, text in texts.items():
        (folder / name).write_text(text.replace("/opt/fleetbench/bin/fleetbench", sys.executable))
    said = systemd_analyze("verify", "--man=no", *(folder / name for name in texts))
    return [line for line in said.splitlines() if "fleetbench" in line]


def texts() -> dict[str, str]:
    return {path.name: path.read_text() for path in (SERVICE, TIMER, *JOINED)}


@pytest.mark.tool
def test_systemd_finds_nothing_wrong_in_the_units(tmp_path: Path) -> None:
    assert verify(texts(), tmp_path) == []


@pytest.mark.tool
@pytest.mark.parametrize("path", [SERVICE, TIMER, *JOINED], ids=lambda path: path.name)
def test_systemd_finds_a_misspelt_key(path: Path, tmp_path: Path) -> None:
    broken = {**texts(), path.name: path.read_text().replace("Description=", "Descripton=")}
    (said,) = verify(broken, tmp_path)
    assert "Descripton" in said


@pytest.mark.tool
def test_the_timer_has_a_next_night() -> None:
    said = systemd_analyze("calendar", "--iterations=2", unit(TIMER)["Timer"]["OnCalendar"])
    assert "Next elapse: never" not in said
    assert "#2: " in said
