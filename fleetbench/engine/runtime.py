"""How a node runs an engine: from a venv, a container, a program on disk, this very Python, or not at all. Pure."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fleetbench.engine.guard import LEASE_ENV
from fleetbench.engine.protocol import Command

Tool = Literal["docker", "podman", "apptainer"]
Vendor = Literal["nvidia", "amd", "none"]

EMBEDDED = "llamacpp"
"""The engine that comes with fleetbench."""
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]*@sha256:[0-9a-f]{64}")
LEASE_LABEL = "fleetbench.lease"
HOME_LABEL = "fleetbench.home"
ARGUMENT_PREFIXES = ("LLAMA_ARG_",)
"""Variables that are arguments by another way: those of this process's environment never reach an engine."""
SECRET = re.compile(r"RAY_AUTH_\w+|(\w+_)?(TOKEN|SECRET|PASSWORD|PASSWD|API_KEY|ACCESS_KEY|PRIVATE_KEY)", re.IGNORECASE)
"""Variables of this process's environment that no engine gets; the node's settings may name one for it."""
OF_APPTAINER = re.compile(r"(APPTAINER|SINGULARITY)_.*")
"""Variables that apptainer obeys itself, and keeps from the engine: a registry's password is one."""
INTERPRETER = ("PYTHONHOME", "PYTHONPATH")
"""They would make another Python load what is meant for this one."""
OF_THE_CLIENT = re.compile(r"PATH|HOME|USER|TMPDIR|(LD|DOCKER|CONTAINER|CONTAINERS|XDG|BUILDAH|REGISTRY)_.*")
"""Variables that the container's client would obey itself were they in its environment."""
AMD_CHOICE = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
CUDA_CHOICE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Venv:
    """A virtual environment (or a conda one) that the engine is installed in."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """An image by its digest, and what runs it; gpus: whose devices it gets, None for those that the node has."""

    image: str
    tool: Tool = "docker"
    gpus: Vendor | None = None

    def __post_init__(self) -> None:
        if not IMAGE.fullmatch(self.image):
            raise ValueError(
                f"the image {self.image!r} is not named by its digest, and a tag moves: write NAME@sha256:DIGEST "
                f"(`docker images --digests` and `skopeo inspect` print it)"
            )

    @property
    def reference(self) -> str:
        """The image as the tool wants it named."""
        return f"docker://{self.image}" if self.tool == "apptainer" else self.image


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The engine's program, where it lies."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """The Python that runs fleetbench has the engine too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """A server that already runs; model: its name there, None for its only one; version: where it does not say."""

    base_url: str
    model: str | None = None
    version: str | None = None


Runtime = Venv | Container | Program | Wheel | Url


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder or file that a container sees, at the same path where `target` is None."""

    source: Path
    target: Path | None = None
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEngine:
    """An engine as this node has it; args and env are added to every launch, as they are.

    matrix_args: flags that a matrix may set on this node when a cluster uses it.
    """

    name: str
    runtime: Runtime
    args: tuple[str, ...] = ()
    matrix_args: Literal["any"] | tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the one who starts an engine stands in.

    environ: its environment; python: its interpreter; vendor: whose GPUs the node has; groups: ids that may use
    their device files; home: names this machine's process ids, so that a lease means the same to who reads it.
    """

    environ: Mapping[str, str]
    python: Path
    vendor: Vendor
    groups: tuple[str, ...] = ()
    home: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What is really run: argv and its whole environment, and the container that outlives it, as (tool, name)."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    container: tuple[Tool, str] | None = None


def wrap(command: Command, engine: NodeEngine, around: Surroundings, mounts: Sequence[Mount], lease: str) -> Process:
    """The command as this runtime runs it; no shell is anywhere on the way.

    Args:
        command: by the adapter; argv[0] is a bare program name.
        engine: its runtime, and what the node adds to the environment.
        around: where it is started.
        mounts: what a container must see besides the node's own mounts: the model, the launch's files.
        lease: who owns it.
    """
    added = {**command.env, **engine.env}
    program, *arguments = command.argv
    match engine.runtime:
        case Venv(path=path):
            return Process(argv=(str(path / "bin" / program), *arguments), env=_in_venv(path, around, added))
        case Wheel():
            bare = program in ("python", "python3")
            found = around.python if bare else around.python.parent / program
            return Process(argv=(str(found), *arguments), env={**_inherited(around), **added})
        case Program(path=path):
            return Process(argv=(str(path), *arguments), env={**_inherited(around), **added})
        case Container(tool="apptainer") as container:
            named = {**added, LEASE_ENV: lease}
            return _apptainer(command.argv, container, named, around, (*mounts, *engine.mounts))
        case Container() as container:
            name = container_name(lease)
            options = [
                *identity(lease, around.home),
                *("--network", "host", "--ipc", "host"),
                *_devices(container, around),
                *_passed(added, around, container),
                *(word for mount in (*mounts, *engine.mounts) for word in ("--mount", _mount(mount, "readonly"))),
            ]
            argv = run_once(container, program, arguments, options)
            return Process(argv=argv, env=_client(added, around), container=(container.tool, name))
        case Url(base_url=url):
            raise ValueError(f"{url} runs already: nothing is to be started")


def identity(lease: str, home: str) -> tuple[str, ...]:
    """Options by which a container is found again: its name, and whose it is."""
    labels = ("--label", f"{LEASE_LABEL}={lease}", "--label", f"{HOME_LABEL}={home}")
    return ("--name", container_name(lease), *labels)


def run_once(
    container: Container, program: str, arguments: Sequence[str], options: Sequence[str] = ()
) -> tuple[str, ...]:
    """One run of a program in an image that is on the node already."""
    if container.tool == "apptainer":
        return ("apptainer", "exec", "--cleanenv", *options, container.reference, program, *arguments)
    head = (container.tool, "run", "--rm", "--init", "--pull=never", *options)
    return (*head, "--entrypoint", program, container.reference, *arguments)


def container_name(lease: str) -> str:
    """A name that docker allows and that no other lease has."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", lease.rpartition("@")[0])[:60].strip("-")
    return f"fleetbench-{words or 'engine'}-{hashlib.sha256(lease.encode()).hexdigest()[:12]}"


def visible(around: Surroundings, vendor: Vendor) -> tuple[str, ...] | None:
    """The NVIDIA GPUs that this process was given, by what names them; None for all that there are."""
    if vendor == "none":
        return ()
    given = around.environ.get(CUDA_CHOICE) if vendor == "nvidia" else None
    if given is None:
        return None
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    return () if "-1" in names or names == ("NoDevFiles",) else names


def _in_venv(path: Path, around: Surroundings, added: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in _inherited(around).items() if name not in INTERPRETER}
    env = {**inherited, **added, "VIRTUAL_ENV": str(path)}
    search = env.get("PATH")
    return {**env, "PATH": f"{path / 'bin'}:{search}" if search else str(path / "bin")}


def _inherited(around: Surroundings) -> dict[str, str]:
    return {name: value for name, value in _open(around).items() if not name.startswith(ARGUMENT_PREFIXES)}


def _open(around: Surroundings) -> dict[str, str]:
    """This process's environment without its secrets."""
    return {name: value for name, value in around.environ.items() if not SECRET.fullmatch(name)}


def _devices(container: Container, around: Surroundings) -> list[str]:
    """Options that give docker or podman the GPUs."""
    vendor = container.gpus or around.vendor
    if vendor == "amd":
        groups = ("keep-groups",) if container.tool == "podman" else around.groups or ("video", "render")
        seen = ["--device", "/dev/kfd", "--device", "/dev/dri", "--security-opt", "seccomp=unconfined"]
        seen += [word for group in groups for word in ("--group-add", group)]
        return [*seen, *(("--security-opt", "label=disable") if container.tool == "podman" else ())]
    gpus = visible(around, vendor)
    if gpus == ():
        return []
    if container.tool == "podman":
        named = [word for gpu in gpus or ("all",) for word in ("--device", f"nvidia.com/gpu={gpu}")]
        return [*named, "--security-opt", "label=disable"]
    return ["--gpus", "all" if gpus is None else _csv([f"device={','.join(gpus)}"])]


def _passed(added: Mapping[str, str], around: Surroundings, container: Container) -> list[str]:
    """Options that let variables through: by name, so that no value stands in a list of processes."""
    names = [LEASE_ENV, *(name for name in added if not OF_THE_CLIENT.fullmatch(name))]
    if (container.gpus or around.vendor) == "amd":
        names += [name for name in AMD_CHOICE if name in around.environ and name not in added]
    own = [f"{name}={value}" for name, value in added.items() if OF_THE_CLIENT.fullmatch(name)]
    return [word for name in (*names, *own) for word in ("--env", name)]


def _client(added: Mapping[str, str], around: Surroundings) -> dict[str, str]:
    return {**_open(around), **{name: value for name, value in added.items() if not OF_THE_CLIENT.fullmatch(name)}}


def _apptainer(
    argv: Sequence[str],
    container: Container,
    added: Mapping[str, str],
    around: Surroundings,
    mounts: Sequence[Mount],
) -> Process:
    """It runs as a child like any other; what it does not see at all is the environment, but for what is named."""
    vendor = container.gpus or around.vendor
    choice = {name: around.environ[name] for name in (CUDA_CHOICE, *AMD_CHOICE) if name in around.environ}
    named = {"PYTHONNOUSERSITE": "1", **(choice if vendor != "none" else {}), **added}
    options = [
        *({"nvidia": ["--nv"], "amd": ["--rocm"], "none": []}[vendor]),
        *(word for mount in mounts for word in ("--mount", _mount(mount, "ro"))),
    ]
    inside = {f"APPTAINERENV_{name}": value for name, value in named.items()}
    own = {name: value for name, value in around.environ.items() if OF_APPTAINER.fullmatch(name)}
    return Process(argv=run_once(container, argv[0], argv[1:], options), env={**_open(around), **own, **inside})


def _mount(mount: Mount, readonly: str) -> str:
    fields = ["type=bind", f"source={mount.source}", f"destination={mount.target or mount.source}"]
    return _csv(fields if mount.writable else [*fields, readonly])


def _csv(fields: Sequence[str]) -> str:
    """One line of CSV, which is how these options are read: a comma in a path is quoted."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
