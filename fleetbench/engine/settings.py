"""The node's settings file: where its engines are, and what they are started with; every mistake at once."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fleetbench.catalog.lookup import nearest
from fleetbench.engine import registry
from fleetbench.engine.runtime import Container, Mount, NodeEngine, Program, Runtime, Tool, Url, Vendor, Venv, Wheel
from fleetbench.errors import InputError
from fleetbench.matrix.document import Lines, mistake, parse, place, printable, show

NODE_ENV = "FLEETBENCH_NODE"
EMBEDDED = "llamacpp"
MAX_BYTES = 1_000_000
RUNTIMES = ("venv", "container", "path", "url")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("no argument or path can hold the character NUL (remove it)")
    return text


def _absolute(text: str) -> str:
    if not home(_no_nul(text)).is_absolute():
        raise ValueError(f"{show(text)} depends on where fleetbench is started (write the whole path, from /)")
    return text


def home(text: str) -> Path:
    """A path with its `~`; that of a user whom nobody knows stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises for nobody's home


def _variable(name: str) -> str:
    if not VARIABLE.fullmatch(name):
        raise ValueError(f"{show(name)} is no name of a variable (letters, digits and underscores)")
    return name


def _image(image: str) -> str:
    Container(image=image)
    return image


def _server(url: str) -> str:
    try:
        parts = urlsplit(url)
        served = parts.scheme in ("http", "https") and parts.hostname and parts.port is not False
    except ValueError:
        served = None
    if not served or parts.query or parts.fragment or not url.isprintable():
        raise ValueError(f"{show(url)} is no address of a server (write http://HOST:PORT)")
    return url


def _empty(value: Any) -> Any:
    """A key with nothing under it is an empty mapping."""
    return {} if value is None else value


Text = Annotated[str, AfterValidator(_no_nul)]
Place = Annotated[str, AfterValidator(_absolute)]
Variable = Annotated[str, AfterValidator(_variable)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class MountForm(_Form):
    """A folder or file that a container sees; at the same path, and not to be written to, unless this says else."""

    source: Place
    target: Place | None = None
    writable: bool = False


def _mount(value: Any) -> Any:
    """A path stands for a mount of it."""
    return {"source": value} if isinstance(value, str) else value


class EngineForm(_Form):
    """Where an engine is, by one of `venv`, `container`, `path` and `url`; without one: in fleetbench's own Python."""

    venv: Annotated[Place | None, Field(description="folder of a virtual environment that has it")] = None
    container: Annotated[
        str | None, AfterValidator(lambda image: image and _image(image)), Field(description="NAME@sha256:DIGEST")
    ] = None
    with_: Annotated[Tool, Field(alias="with", description="what runs the container")] = "docker"
    gpus: Annotated[Vendor | None, Field(description="whose GPUs the container gets; found where left out")] = None
    path: Annotated[Place | None, Field(description="the engine's program")] = None
    url: Annotated[
        str | None, AfterValidator(lambda url: url and _server(url)), Field(description="a server that already runs")
    ] = None
    model: Annotated[str | None, Field(description="the model's name at `url`; its only one where left out")] = None
    version: Annotated[str | None, Field(description="of the server at `url`, where it does not say")] = None
    args: Annotated[list[Text], Field(description="more arguments, as they are: no shell sees them")] = []
    env: Annotated[dict[Variable, Text], Field(description="more environment variables")] = {}
    mounts: Annotated[
        list[Annotated[MountForm, BeforeValidator(_mount, json_schema_input_type=str | MountForm)]],
        Field(description="what the container sees besides the model: paths, or mappings"),
    ] = []

    @model_validator(mode="after")
    def _belongs(self) -> EngineForm:
        given = self.model_fields_set
        if len(places := [name for name in RUNTIMES if name in given]) > 1:
            raise ValueError(f"is in several places: {', '.join(places)} (keep one)")
        for name, only in (("with_", "container"), ("gpus", "container"), ("mounts", "container"), ("model", "url")):
            if name in given and only not in given:
                raise ValueError(f"`{name.rstrip('_')}` means nothing without `{only}` (remove it)")
        if "version" in given and "url" not in given:
            raise ValueError("`version` is read where the engine is (remove it; it is for `url` alone)")
        if "url" in given and (self.args or self.env):
            raise ValueError("a server that already runs takes no `args` or `env` (remove them, or start it here)")
        return self


class NodeForm(_Form):
    """What this node can start; an engine that is not named here cannot be, but for the embedded llamacpp."""

    engines: Annotated[
        dict[str, Annotated[EngineForm, BeforeValidator(_empty, json_schema_input_type=EngineForm | None)]],
        BeforeValidator(_empty),
        Field(description="by the names of adapters: llamacpp, llama-server, vllm, sglang, ..."),
    ] = {}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of node settings, for editors."""
    return NodeForm.model_json_schema(by_alias=True)


def settings_path(environ: Mapping[str, str] = os.environ) -> Path:
    """`$FLEETBENCH_NODE`, else `node.yaml` in the user's folder of settings."""
    named = environ.get(NODE_ENV)
    if named:
        return home(named)
    folder = environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "fleetbench" / "node.yaml"


def read(path: Path | None = None, known: Sequence[str] | None = None) -> dict[str, NodeEngine]:
    """The engines of this node by name; the embedded one alone where there is no settings file.

    Args:
        path: the file; by default `settings_path()`, which may be missing unless `$FLEETBENCH_NODE` names it.
        known: names of adapters; by default those that are installed.

    Raises:
        InputError: every mistake in it, one per line.
    """
    must = path is not None or bool(os.environ.get(NODE_ENV))
    path = settings_path() if path is None else path
    source = printable(str(path))
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for a writer
            raise InputError((f"{source}: is not a regular file (${NODE_ENV} names the node's settings)",))
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except FileNotFoundError as error:
        if must:
            raise InputError((f"{source}: no such file (${NODE_ENV} names the node's settings)",)) from error
        return read_text("engines: {}", source, known)
    except OSError as error:
        raise InputError((f"{source}: cannot be read: {error.strerror}",)) from error
    except UnicodeDecodeError as error:
        raise InputError((f"{source}: is not UTF-8 (save it as UTF-8)",)) from error
    if len(content) > MAX_BYTES:
        raise InputError((f"{source}: is larger than {MAX_BYTES} bytes (settings are a small file)",))
    return read_text(text, source, known)


def read_text(text: str, source: str, known: Sequence[str] | None = None) -> dict[str, NodeEngine]:
    """`read` for a text that mistakes call `source`."""
    known = registry.names() if known is None else known
    document = parse(text)
    lines = Lines(source=source, root=document.root)
    mistakes = [f"{place(source, problem.line)}: {problem.sentence}" for problem in document.problems]
    tree = {} if document.root is None else document.root.plain()
    form = NodeForm()
    if tree is not None:
        try:
            form = NodeForm.model_validate(tree)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                present, line = lines.find(detail["loc"])
                absent = detail["loc"][-1:] if detail["type"] == "missing" else ()
                mistakes.append(mistake(source, line, (*present, *absent), _sentence(detail)))
    mistakes += [lines.mistake(("engines", name), why) for name, why in _misplaced(tree, known)]
    if mistakes:
        raise InputError(tuple(mistakes))
    engines = {name: _engine(name, engine) for name, engine in form.engines.items()}
    return {EMBEDDED: NodeEngine(name=EMBEDDED, runtime=Wheel()), **engines}


def _misplaced(tree: Any, known: Sequence[str]) -> Iterator[tuple[str, str]]:
    engines = tree.get("engines") if isinstance(tree, dict) else None
    for name, engine in (engines if isinstance(engines, dict) else {}).items():
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
            yield name, f"there is no adapter for the engine {show(name)} ({hint})"
        elif isinstance(engine, dict):
            places = [place for place in RUNTIMES if place in engine]
            if name == EMBEDDED and places:
                yield name, f"comes with fleetbench (remove `{places[0]}`; for a program of your own: llama-server)"
            if name == "endpoint" and places != ["url"]:
                yield name, "is a server that already runs (write `url: http://HOST:PORT`)"


def _sentence(detail: Any) -> str:
    """One mistake that pydantic found, in words."""
    given, word = show(detail["input"]), str(detail["loc"][-1]) if detail["loc"] else ""
    names = [field.alias or name for name, field in EngineForm.model_fields.items()]
    near = nearest(word, ["engines"] if len(detail["loc"]) == 1 else names)
    sentences = {
        "extra_forbidden": "there is no such key " + (f"(did you mean {near[0]}?)" if near else "(remove it)"),
        "value_error": str(detail.get("ctx", {}).get("error")),
        "missing": "is missing (write it)",
        "literal_error": f"{given} is not one of {detail.get('ctx', {}).get('expected')}",
        "model_type": f"{given} stands where a mapping, KEY: VALUE, belongs",
        "dict_type": f"{given} stands where a mapping, KEY: VALUE, belongs",
        "list_type": f"{given} stands where a list belongs",
        "string_type": f"{given} is not a text (put it in quotes)",
    }
    return sentences.get(detail["type"], f"{given}: {detail['msg'][:1].lower()}{detail['msg'][1:]}")


def _engine(name: str, form: EngineForm) -> NodeEngine:
    return NodeEngine(
        name=name,
        runtime=_runtime(form),
        args=tuple(form.args),
        env=dict(form.env),
        mounts=tuple(
            Mount(
                source=home(mount.source),
                target=None if mount.target is None else Path(mount.target),
                writable=mount.writable,
            )
            for mount in form.mounts
        ),
    )


def _runtime(form: EngineForm) -> Runtime:
    if form.venv is not None:
        return Venv(path=home(form.venv))
    if form.container is not None:
        return Container(image=form.container, tool=form.with_, gpus=form.gpus)
    if form.path is not None:
        return Program(path=home(form.path))
    if form.url is not None:
        base_url = form.url.rstrip("/").removesuffix("/v1")
        return Url(base_url=base_url, model=form.model, version=form.version)
    return Wheel()
