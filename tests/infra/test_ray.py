"""Ray's cluster launcher files: Ray takes them, and they start what fleetbench needs."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fleetbench.catalog.lookup import gpu_info
from fleetbench.fleet.nodes.labels import GPU, GPUS, NODE, POOL
from tests.infra.files import INFRA, ROOT, document, strings
from tests.infra.shell import commands

FILES = sorted((INFRA / "ray").glob("*.yaml"))
CLOUDS = [path for path in FILES if document(path)["provider"]["type"] != "local"]
STARTS = ("head_start_ray_commands", "worker_start_ray_commands")
each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
each_cloud = pytest.mark.parametrize("path", CLOUDS, ids=lambda path: path.stem)


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """What the launcher makes of a file. Ray's private check: its version is pinned."""
    from ray.autoscaler._private.util import prepare_config, validate_config  # noqa: PLC0415 - Ray is slow to import

    found: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(found)
    return found


def workers(path: Path) -> dict[str, dict[str, Any]]:
    config = document(path)
    types: dict[str, dict[str, Any]] = config["available_node_types"]
    return {name: kind for name, kind in types.items() if name != config["head_node_type"]}


def test_there_is_one_for_each_place() -> None:
    assert [document(path)["provider"]["type"] for path in FILES] == ["aws", "gcp", "local"]


@each
def test_ray_takes_it(path: Path) -> None:
    assert prepared(document(path))["max_workers"] > 0


@each
@pytest.mark.parametrize("place", [(), ("auth",)], ids=["top", "auth"])
def test_a_misspelt_key_is_found(path: Path, place: tuple[str, ...]) -> None:
    config = document(path)
    part = config
    for key in place:
        part = part[key]
    part["idle_timeout_minuets"] = 5
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minuets"):
        prepared(config)


@each_cloud
def test_a_misspelt_key_of_a_node_type_is_found(path: Path) -> None:
    config = document(path)
    config["available_node_types"]["h100"]["label"] = {}
    with pytest.raises(jsonschema.ValidationError, match="label"):
        prepared(config)


@each_cloud
def test_each_kind_of_node_is_tagged_as_it_is_counted(path: Path) -> None:
    for name, kind in workers(path).items():
        known = gpu_info(kind["labels"][GPU])
        assert known is not None
        assert name == known.name == kind["labels"][GPU]
        assert kind["labels"][GPUS] == str(kind["resources"]["GPU"])
        assert kind["resources"][NODE] == 1
        assert kind["labels"][POOL] == path.stem


@each_cloud
def test_nodes_come_by_demand_alone_and_go_when_idle(path: Path) -> None:
    config = prepared(document(path))
    assert {kind["min_workers"] for kind in config["available_node_types"].values()} == {0}
    assert sum(kind["max_workers"] for kind in workers(path).values()) == config["max_workers"]
    assert 0 < config["idle_timeout_minutes"] <= 15


@each
def test_ray_is_started_with_flags_that_it_has(path: Path) -> None:
    from ray.scripts.scripts import start  # noqa: PLC0415 - as above

    (words,) = [
        words
        for text in document(path)["head_start_ray_commands"]
        for words in commands(text, "ray", {})
        if words[0] == "start"
    ]
    given = start.make_context("start", words[1:]).params
    assert given["head"] is True
    assert given["dashboard_host"] == "127.0.0.1"
    assert given["autoscaling_config"] == "~/ray_bootstrap_config.yaml"


@each
@pytest.mark.parametrize("which", STARTS)
def test_nothing_is_started_without_the_token(path: Path, which: str) -> None:
    config = document(path)
    starting = [text for text in config[which] if "ray start" in text or "node up" in text]
    (where,) = {place for text in starting for place in re.findall(r"RAY_AUTH_TOKEN_PATH=(\S+?);", text)}
    assert all("RAY_AUTH_MODE=token" in text for text in starting)
    assert where.replace("$HOME", "~") in config["file_mounts"]


@each
def test_what_it_copies_is_there_or_made_by_the_readme(path: Path) -> None:
    readme = (INFRA / "README.md").read_text()
    for source in document(path)["file_mounts"].values():
        assert (ROOT / source).exists() or (source == "dist" and "--wheel-dir dist" in readme) or source[0] == "~"


@each
def test_it_holds_no_secret(path: Path) -> None:
    assert [
        text for text in strings(document(path)) if re.search(r"hf_[A-Za-z0-9]{8}|AKIA|BEGIN .*PRIVATE", text)
    ] == []
