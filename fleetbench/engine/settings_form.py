"""The form of a node's settings file: what may be written in it, and how a mistake in it is said. Looks at no disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from fleetbench.catalog.lookup import nearest
from fleetbench.engine.runtime import EMBEDDED, Container, Tool, Vendor
from fleetbench.matrix.document import show
from fleetbench.plan.nodes import Use

RUNTIMES = ("venv", "container", "path", "url")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
"""What Ray takes as the value of a label."""
FLAG = re.compile(r"--?[A-Za-z][\w.-]*")


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


def _endpoint(url: str) -> str:
    if "@" in url:
        raise ValueError("an address is no place for a password (write the address alone, and `token_file: FILE`)")
    return _server(url)


def _pool(name: str) -> str:
    if not LABEL.fullmatch(name):
        raise ValueError(f"{show(name)} is no name of a pool (1 to 63 letters, digits, and _ . - inside)")
    return name


def _matrix_args(given: Any) -> Any:
    if given == "any":
        return given
    if not isinstance(given, list):
        raise ValueError(f"{show(given)} is neither `any` nor a list of flags")  # noqa: TRY004 - pydantic's own
    for flag in given:
        if not isinstance(flag, str) or not FLAG.fullmatch(flag):
            raise ValueError(f"{show(flag)} is no flag (write it alone and as the engine spells it: --max-num-seqs)")
    return tuple(given)


def _empty(value: Any) -> Any:
    """A key with nothing under it is an empty mapping."""
    return {} if value is None else value


Text = Annotated[str, AfterValidator(_no_nul)]
Place = Annotated[str, AfterValidator(_absolute)]
Variable = Annotated[str, AfterValidator(_variable)]
Allowed = Literal["any"] | tuple[str, ...]


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
    matrix_args: Annotated[
        Allowed,
        PlainValidator(_matrix_args, json_schema_input_type=Literal["any"] | list[str]),
        Field(
            description="flags that a matrix may set when a cluster uses this node, each as the engine spells it, or "
            "`any`; none where left out. A flag may read files or run code: list what you know"
        ),
    ] = ()
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
        if "url" in given and (self.args or self.env or self.matrix_args):
            raise ValueError("a server that already runs takes no `args` or `env` (remove them, or start it here)")
        return self


class HubForm(_Form):
    """Where weights that are not on the node are fetched from, and with which right."""

    token_file: Annotated[
        Place | None,
        Field(
            description="file that holds the token for gated models alone; nobody else may read it (chmod 600). Read "
            "for a download only: no engine, log or row ever has it"
        ),
    ] = None
    endpoint: Annotated[
        str | None,
        AfterValidator(lambda url: url and _endpoint(url)),
        Field(description="another hub's address; the library's own (HF_ENDPOINT) where left out"),
    ] = None
    offline: Annotated[bool, Field(description="nothing is fetched: models must be on the node")] = False


class NodeForm(_Form):
    """One node, or every node of a pool: what it can start, how it is used, and where its weights are."""

    pool: Annotated[str, AfterValidator(_pool), Field(description="the pool that it belongs to")] = "default"
    use: Annotated[
        Use,
        Field(description="`whole`: a launch has the node to itself; `shared`: others measure beside it on other GPUs"),
    ] = "whole"
    cache: Annotated[
        Place | None,
        Field(
            description="folder for weights, fetched or made, of this node; where left out, FLEETBENCH_CACHE or the "
            "user's cache, and the hub's own cache for what is fetched"
        ),
    ] = None
    models: Annotated[
        dict[Text, Place],
        BeforeValidator(_empty),
        Field(description="folders of models on this node, by the name that a matrix has or by hub id"),
    ] = {}
    hub: Annotated[HubForm, BeforeValidator(_empty, json_schema_input_type=HubForm | None)] = HubForm()
    matrix_paths: Annotated[
        list[Place],
        Field(
            description="folders below which a matrix may name paths (models, adapters, drafts, calibration texts) "
            "when a cluster uses this node; none where left out, so that it reads no other files. What is below "
            "`models` may always be named"
        ),
    ] = []
    engines: Annotated[
        dict[str, Annotated[EngineForm, BeforeValidator(_empty, json_schema_input_type=EngineForm | None)]],
        BeforeValidator(_empty),
        Field(
            description="by the names of adapters: llamacpp, llama-server, vllm, sglang, ...; an engine that is not "
            "named here cannot be started, but for the embedded llamacpp"
        ),
    ] = {}


def misplaced(tree: Any, known: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Engines that nobody knows, or that cannot be where the settings have them: name and why."""
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


def sentence(detail: Any) -> str:
    """One mistake that pydantic found, in words."""
    given, word = show(detail["input"]), str(detail["loc"][-1]) if detail["loc"] else ""
    near = nearest(word, _keys(detail["loc"]))
    sentences = {
        "extra_forbidden": "there is no such key " + (f"(did you mean {near[0]}?)" if near else "(remove it)"),
        "value_error": str(detail.get("ctx", {}).get("error")),
        "missing": "is missing (write it)",
        "literal_error": f"{given} is not one of {detail.get('ctx', {}).get('expected')}",
        "model_type": f"{given} stands where a mapping, KEY: VALUE, belongs",
        "dict_type": f"{given} stands where a mapping, KEY: VALUE, belongs",
        "list_type": f"{given} stands where a list belongs",
        "string_type": f"{given} is not a text (put it in quotes)",
        "bool_type": f"{given} is neither true nor false",
    }
    return sentences.get(detail["type"], f"{given}: {detail['msg'][:1].lower()}{detail['msg'][1:]}")


def _keys(loc: tuple[str | int, ...]) -> list[str]:
    """The keys that there are beside the last step of `loc`."""
    form: type[_Form] = NodeForm
    if len(loc) > 1:
        form = HubForm if loc[0] == "hub" else MountForm if "mounts" in loc[2:-1] else EngineForm
    return [field.alias or name for name, field in form.model_fields.items()]
