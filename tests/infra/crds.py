"""KubeRay's definitions as JSON Schemas that refuse unknown fields, as `kubectl apply --validate=strict` does."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

FOLDER = Path(__file__).parent / "crds"
PRESERVE = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"


def strict(node: Any) -> Any:
    """A structural schema as a JSON Schema with closed objects."""
    if isinstance(node, list):
        return [strict(part) for part in node]
    if not isinstance(node, dict):
        return node
    made = dict(node)
    if made.pop(INT_OR_STRING, False):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    closed = made.get("type") == "object" and "properties" in made and not made.get(PRESERVE)
    if closed and "additionalProperties" not in made:
        made["additionalProperties"] = False
    if made.pop("nullable", False) and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return {
        key: {name: strict(part) for name, part in value.items()} if key == "properties" else strict(value)
        for key, value in made.items()
    }


@cache
def schema(kind: str) -> dict[str, Any]:
    """The schema of one of Ray's kinds."""
    path = FOLDER / f"ray.io_{kind.lower()}s.yaml.gz"
    definition = yaml.load(gzip.decompress(path.read_bytes()), yaml.CSafeLoader)
    (version,) = [version for version in definition["spec"]["versions"] if version["name"] == "v1"]
    found: dict[str, Any] = strict(version["schema"]["openAPIV3Schema"])
    found["properties"]["metadata"] = {"type": "object"}
    return found


def inside(kind: str, *path: str) -> dict[str, Any]:
    """The schema of a part of it; `*` for the elements of a list."""
    found = schema(kind)
    for step in path:
        found = found["items"] if step == "*" else found["properties"][step]
    return found


def mistakes(tree: Any, schema: dict[str, Any]) -> Iterator[str]:
    """What is wrong in it, and where."""
    for error in jsonschema.Draft202012Validator(schema).iter_errors(tree):
        yield f"{error.json_path}: {error.message}"
