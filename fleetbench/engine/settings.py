"""The node's settings file: where its engines are, how it is used, where its weights lie; every mistake at once."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fleetbench.engine import registry
from fleetbench.engine.runtime import EMBEDDED, Container, Mount, NodeEngine, Program, Runtime, Url, Venv, Wheel
from fleetbench.engine.settings_form import EngineForm, NodeForm, home, misplaced, sentence
from fleetbench.errors import InputError
from fleetbench.matrix.document import Lines, mistake, parse, place, printable
from fleetbench.plan.nodes import Use

NODE_ENV = "FLEETBENCH_NODE"
MAX_BYTES = 1_000_000
MAX_TOKEN_BYTES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Where weights are fetched from; token_file: the right to gated ones, never read but for a download."""

    token_file: Path | None = None
    endpoint: str | None = None
    offline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What a node is told of itself.

    engines: by name, the embedded one among them; cache: of weights, None for the user's own; models: folders by the
    name of a matrix's model, or by hub id; matrix_paths: folders below which a matrix may name paths on this node.
    """

    engines: Mapping[str, NodeEngine]
    pool: str = "default"
    use: Use = "whole"
    cache: Path | None = None
    models: Mapping[str, Path] = field(default_factory=dict)
    hub: Hub = Hub()
    matrix_paths: tuple[Path, ...] = ()


def json_schema() -> dict[str, Any]:
    """The JSON Schema of node settings, for editors."""
    schema = NodeForm.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "fleetbench node settings"}


def settings_path(environ: Mapping[str, str] = os.environ) -> Path:
    """`$FLEETBENCH_NODE`, else `node.yaml` in the user's folder of settings."""
    named = environ.get(NODE_ENV)
    if named:
        return home(named)
    folder = environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else home("~") / ".config") / "fleetbench" / "node.yaml"


def read_settings(
    path: Path | None = None,
    known: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    look: bool = False,
) -> NodeSettings:
    """The settings of this node; those of a node with the embedded engine alone where there is no file.

    Args:
        path: the file; by default `settings_path()`, which may be missing unless `$FLEETBENCH_NODE` names it.
        known: names of adapters; by default those that are installed.
        environ: where the variables are.
        look: also find mistakes of what the file names on this machine: models, the token's file.

    Raises:
        InputError: every mistake in it, one per line.
    """
    must = path is not None or bool(environ.get(NODE_ENV))
    path = settings_path(environ) if path is None else path
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
    return read_text(text, source, known, look=look)


def read_text(text: str, source: str, known: Sequence[str] | None = None, *, look: bool = False) -> NodeSettings:
    """`read_settings` for a text that mistakes call `source`."""
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
                mistakes.append(mistake(source, line, (*present, *absent), sentence(detail)))
    mistakes += [lines.mistake(("engines", name), why) for name, why in misplaced(tree, known)]
    settings = _settings(form)
    if look:
        mistakes += [lines.mistake(loc, why) for loc, why in _absent(settings)]
    if mistakes:
        raise InputError(tuple(mistakes))
    return settings


def token_problem(file: Path) -> str | None:
    """Why a token's file cannot be used as it is; None where it can. What it holds is not looked at."""
    try:
        found = file.stat()
    except OSError as error:
        return f"{file}: {error.strerror} (write the token there, and chmod 600 it)"
    if not stat.S_ISREG(found.st_mode):
        return f"{file} is not a regular file (write the token in one, and chmod 600 it)"
    # One of root's is read by its group or not at all: so are secrets that an orchestrator mounts.
    mounted = found.st_uid == 0 and os.geteuid() != 0
    if found.st_mode & (0o037 if mounted else 0o077):
        return f"{file} can be read by others than its owner (keep the token in a file of its own: chmod 600)"
    return None


def read_token(file: Path) -> str:
    """The token in a file of its own.

    Raises:
        InputError: it cannot be used, or holds no token; the sentence never has its content.
    """
    problem, text = token_problem(file), ""
    if problem is None:
        try:
            with file.open("rb") as content:
                text = content.read(MAX_TOKEN_BYTES).decode("ascii", "replace").strip()
        except OSError as error:
            problem = f"{file}: {error.strerror} (see whose it is)"
    if problem is None and (not text or not all("!" <= char <= "~" for char in text)):
        problem = f"{file} holds no token (write it there alone, in one line)"
    if problem is not None:
        raise InputError((problem,))
    return text


def _absent(settings: NodeSettings) -> Iterator[tuple[tuple[str, ...], str]]:
    """What the settings name, and this machine does not have as they say."""
    for name, folder in settings.models.items():
        if not folder.is_dir():
            yield ("models", name), f"{folder} is no folder (a model is a folder in Hugging Face layout)"
    if settings.cache is not None and settings.cache.exists() and not settings.cache.is_dir():
        yield ("cache",), f"{settings.cache} is no folder"
    if settings.hub.token_file is not None and (why := token_problem(settings.hub.token_file)):
        yield ("hub", "token_file"), why


def _settings(form: NodeForm) -> NodeSettings:
    engines = {name: _engine(name, engine) for name, engine in form.engines.items()}
    token_file = form.hub.token_file
    return NodeSettings(
        engines={EMBEDDED: NodeEngine(name=EMBEDDED, runtime=Wheel()), **engines},
        pool=form.pool,
        use=form.use,
        cache=None if form.cache is None else home(form.cache),
        models={name: home(folder) for name, folder in form.models.items()},
        hub=Hub(
            token_file=None if token_file is None else home(token_file),
            endpoint=form.hub.endpoint,
            offline=form.hub.offline,
        ),
        matrix_paths=tuple(home(folder) for folder in form.matrix_paths),
    )


def _engine(name: str, form: EngineForm) -> NodeEngine:
    return NodeEngine(
        name=name,
        runtime=_runtime(form),
        args=tuple(form.args),
        matrix_args=form.matrix_args,
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
