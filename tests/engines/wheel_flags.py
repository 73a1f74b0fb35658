"""The flags of an engine's server, read from the argument definitions in its wheel: neither installed nor imported."""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fleetbench.errors import InputError

VLLM_FILES = re.compile(
    r"vllm/(engine/arg_utils|entrypoints/.*/?cli_args|config/.*|model_executor/layers/quantization/__init__)\.py"
)
VLLM_ENGINE = "vllm/engine/arg_utils.py"
VLLM_PARSER = "vllm/utils/argparse_utils.py"
SGLANG_FILES = re.compile(r"sglang/srt/(server_args|arg_groups/choices|arg_groups/fields/\w+)\.py")
VLLM_CHOICES = {"--quantization": "QuantizationMethods", "--kv-cache-dtype": "CacheDType"}
SGLANG_CHOICES = {"--quantization", "--kv-cache-dtype"}
ANNOTATED = {"A", "Annotated"}
OPPOSITE = {"--enable-": "--disable-", "--disable-": "--enable-"}


def read_wheel(path: Path) -> frozenset[str]:
    """Every option string that `vllm serve` or `python -m sglang.launch_server` takes, help excepted.

    Of quantization and cache formats also the values, as `--kv-cache-dtype=fp8`.

    Raises:
        InputError: the file is no wheel of vLLM or SGLang, or its arguments are not defined as they were.
    """
    with _opened(path) as wheel:
        names = wheel.namelist()
        if VLLM_ENGINE in names:
            paired = VLLM_PARSER in names and b"_inverse_prefixes" in wheel.read(VLLM_PARSER)
            found = _vllm(_parsed(wheel, names, VLLM_FILES), paired=paired)
        else:
            found = _sglang(_parsed(wheel, names, SGLANG_FILES))
    if "--port" not in found or len(found) < 100:
        raise InputError((f"{path}: only {len(found)} flags were found in it: it is no known wheel of vLLM or SGLang",))
    return frozenset(found)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError((f"{path}: no wheel could be read: {error}",)) from error


def _parsed(wheel: zipfile.ZipFile, names: Iterable[str], wanted: re.Pattern[str]) -> dict[str, ast.Module]:
    return {name: ast.parse(wheel.read(name), name) for name in names if wanted.fullmatch(name)}


def _vllm(files: Mapping[str, ast.Module], *, paired: bool) -> set[str]:
    """paired: whether its parser takes `--disable-x` beside a switch `--enable-x`, and the other way round."""
    classes = {node.name: node for tree in files.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    plain, switches = _added(files[VLLM_ENGINE], classes)
    for name, tree in files.items():
        if not name.endswith("cli_args.py"):
            continue
        more = _added(tree, classes)
        plain, switches = plain | more[0], switches | more[1]
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("FrontendArgs"):
                for field, annotation in _fields(node):
                    (switches if _is_switch(annotation) else plain).add("--" + field.replace("_", "-"))
    found = plain | switches | _negated(switches)
    for flag, name in VLLM_CHOICES.items():
        found |= {f"{flag}={value}" for tree in files.values() for value in _assigned(tree, name)}
    if paired:
        found |= {
            opposite + flag.removeprefix(prefix)
            for prefix, opposite in OPPOSITE.items()
            for flag in switches
            if flag.startswith(prefix)
        }
    return found


def _assigned(tree: ast.Module, name: str) -> set[str]:
    """The texts in what a module-level name is set to: a list, or a Literal."""
    return {
        text
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id == name
        for text in _texts(node.value)
    }


def _texts(value: ast.AST) -> Iterator[str]:
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _negated(switches: Iterable[str]) -> set[str]:
    return {"--no-" + flag.removeprefix("--") for flag in switches if flag.startswith("--")}


def _added(tree: ast.Module, classes: Mapping[str, ast.ClassDef]) -> tuple[set[str], set[str]]:
    """The option strings of all calls of `add_argument`, and apart from them those of switches with a `--no-` form."""
    sources = _argument_sources(tree)
    plain: set[str] = set()
    switches: set[str] = set()
    for call in _calls(tree, "add_argument"):
        flags = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        switch = any(_negates(keyword, sources, classes) for keyword in call.keywords)
        (switches if switch else plain).update(flag for flag in flags if flag.startswith("-"))
    return plain, switches


def _argument_sources(tree: ast.Module) -> dict[str, str]:
    """Variables that hold the argument definitions of a configuration class: `x = get_kwargs(Class)`."""
    return {
        node.targets[0].id: node.value.args[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "get_kwargs"
        and isinstance(node.value.args[0], ast.Name)
    }


def _negates(keyword: ast.keyword, sources: Mapping[str, str], classes: Mapping[str, ast.ClassDef]) -> bool:
    """Whether an argument of `add_argument` makes it a switch: its action, or the field it is defined by."""
    if keyword.arg == "action":
        return _is_boolean_action(keyword.value)
    if keyword.arg is not None:
        return False
    for node in ast.walk(keyword.value):
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and isinstance(node.slice, ast.Constant)
        ):
            owner = classes.get(sources.get(node.value.id, ""))
            annotation = dict(_fields(owner)).get(str(node.slice.value)) if owner else None
            if annotation is not None and _is_switch(annotation):
                return True
    return False


def _is_boolean_action(value: ast.expr) -> bool:
    return ast.unparse(value).endswith("BooleanOptionalAction")


def _is_switch(annotation: ast.expr) -> bool:
    """A field that may be a bool is a switch, unless it may also be text."""
    names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
    return "bool" in names and "str" not in names


def _fields(owner: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for node in owner.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.annotation


def _calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
            yield node


def _sglang(files: Mapping[str, ast.Module]) -> set[str]:
    found: set[str] = set()
    for name, tree in files.items():
        for owner in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            for field, annotation in _fields(owner):
                flags, choices = _annotated(field, annotation)
                found |= flags | _chosen(flags, choices, files)
        if name.endswith("server_args.py"):
            plain, switches = _added(tree, {})
            found |= plain | switches | _negated(switches)
            for call in _calls(tree, "add_argument"):
                flags = {text for arg in call.args for text in _texts(arg)}
                choices = next((keyword.value for keyword in call.keywords if keyword.arg == "choices"), None)
                found |= _chosen(flags, choices, files)
    return found


def _chosen(flags: set[str], choices: ast.expr | None, files: Mapping[str, ast.Module]) -> set[str]:
    """The values of a flag whose choices are kept: written where it is defined, or under a name."""
    kept = flags & SGLANG_CHOICES
    if not kept or choices is None:
        return set()
    if isinstance(choices, ast.Name):
        values = {text for tree in files.values() for text in _assigned(tree, choices.id)}
    else:
        values = set(_texts(choices))
    return {f"{flag}={value}" for flag in kept for value in values}


def _annotated(field: str, annotation: ast.expr) -> tuple[set[str], ast.expr | None]:
    """The flags of `field: A[type, "help"]` or `field: A[type, Arg(...)]`, none of any other field; and its choices."""
    if not (isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name)):
        return set(), None
    if annotation.value.id not in ANNOTATED or not isinstance(annotation.slice, ast.Tuple):
        return set(), None
    for meta in annotation.slice.elts[1:]:
        if isinstance(meta, ast.Call) and isinstance(meta.func, ast.Name) and meta.func.id == "Arg":
            given = {keyword.arg: keyword.value for keyword in meta.keywords if keyword.arg}
            if "no_cli" in given and ast.literal_eval(given["no_cli"]):
                return set(), None
            named = ast.literal_eval(given["cli_name"]) if "cli_name" in given else None
            aliases = ast.literal_eval(given["aliases"]) if "aliases" in given else None
            flags = {named or "--" + field.replace("_", "-"), *(aliases or ())}
            if "action" in given and _is_boolean_action(given["action"]):
                flags |= _negated(flags)
            return flags, given.get("choices")
        if isinstance(meta, ast.Constant | ast.JoinedStr | ast.BinOp):
            return {"--" + field.replace("_", "-")}, None
    return set(), None
