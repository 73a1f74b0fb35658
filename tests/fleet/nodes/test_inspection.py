from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleetbench import __version__
from fleetbench.fleet.nodes.facts import Device
from fleetbench.fleet.nodes.inspection import IDLE_BYTES, Gpus, device_problem, free_bytes, idle_problem
from tests import fake_nvml

INSPECT = """
import json
from dataclasses import asdict
from fleetbench.fleet.nodes.inspection import inspect
print(json.dumps(asdict(inspect())))
"""
H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"


def device(index: int, name: str = H100, kind: str | None = "h100", used: int | None = 0) -> Device:
    return Device(index=index, name=name, kind=kind, uuid=f"GPU-{index}", memory_bytes=80 << 30, used_bytes=used)


def node(*devices: Device, problem: str | None = None) -> Gpus:
    return Gpus(devices=devices, driver=None, problem=problem)


@pytest.mark.parametrize("tag", ["sim-h100", "local", "cpu"])
def test_what_runs_on_a_cpu_needs_no_gpu_and_is_not_disturbed_by_one(tag: str) -> None:
    assert device_problem(tag, node()) is None
    assert device_problem(tag, node(device(0))) is None


def test_a_tag_is_true_of_a_node_with_gpus_of_that_kind_alone() -> None:
    assert device_problem("h100", node(device(0), device(1))) is None
    assert device_problem("h100-sxm", node(device(0))) is None  # an alias of it


@pytest.mark.parametrize(
    ("tag", "seen", "sentence"),
    [
        (
            "h100",
            node(device(0, A100, "a100-80g")),
            f"is tagged h100, but has {A100} (a100-80g): tag it by what it has",
        ),
        ("h100", node(device(0), device(1, "NVIDIA T400", None)), "has NVIDIA T400 (no kind of the catalog)"),
        ("h100", node(), "is tagged h100, but has no GPU: neither NVML nor AMD SMI finds one"),
        ("h100", node(problem="NVML: Unknown Error"), "but has no GPU: NVML: Unknown Error"),
        ("b999", node(device(0)), "is tagged b999, which the catalog does not know"),
    ],
)
def test_a_tag_that_lies_is_refused_with_both_names(tag: str, seen: Gpus, sentence: str) -> None:
    assert sentence in str(device_problem(tag, seen))


def test_gpus_that_somebody_holds_are_named_and_only_those_that_are_wanted() -> None:
    gpus = [device(0), device(1, used=40 << 30), device(2, used=IDLE_BYTES), device(3, used=None)]
    assert str(idle_problem(gpus)).startswith("GPU 1 has 40.0 GiB in use before the engine starts: end what runs there")
    for wanted in ([1], ["1"], ["GPU-1", "GPU-0"]):
        assert idle_problem(gpus, wanted) is not None
    assert idle_problem(gpus, [0, 2, 3]) is None
    assert idle_problem([], None) is None


def test_an_idle_mi300x_is_idle() -> None:
    """297,771,008 bytes are in use on one where nothing runs."""
    assert idle_problem([device(0, used=297_771_008)]) is None


def test_room_is_told_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") == free_bytes(tmp_path) != 0
    (tmp_path / "file").touch()
    assert free_bytes(tmp_path / "file" / "below") is None


def inspected(settings: Path, **environ: str) -> Any:
    """The facts of a node, as a process of its own tells them."""
    env = os.environ | {"FLEETBENCH_NODE": str(settings)} | environ
    done = subprocess.run([sys.executable, "-c", INSPECT], env=env, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.tool
def test_a_node_tells_its_gpus_its_engines_and_its_settings(tmp_path: Path) -> None:
    library = fake_nvml.build(tmp_path)
    settings = tmp_path / "node.yaml"
    settings.write_text(
        f"pool: eu\nuse: shared\ncache: {tmp_path}/cache\nengines:\n  vllm: {{venv: /nowhere}}\n  llamacpp:\n"
    )
    said = inspected(settings, LD_LIBRARY_PATH=str(library), FAKE_NVML_NAME=H100, FAKE_NVML_USED="5")
    assert [(one["name"], one["kind"], one["used_bytes"]) for one in said["devices"]] == [
        (H100, "h100", 0),
        (H100, "h100", 5),
    ]
    assert (said["host"], said["version"], said["driver"]) == (socket.gethostname(), __version__, "999.1")
    assert (said["pool"], said["use"], said["cache"]) == ("eu", "shared", f"{tmp_path}/cache")
    assert said["cache_free_bytes"] > 0
    assert list(said["engines"]) == ["llamacpp"]
    assert "python -m venv /nowhere" in said["unusable"]["vllm"]
    assert said["problem"] is None


def test_settings_that_are_wrong_are_a_problem_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("poll: a\nuse: both\n")
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"no library")
    said = inspected(
        tmp_path / "node.yaml", LD_LIBRARY_PATH=str(tmp_path), HOME="", XDG_CACHE_HOME="/x", FLEETBENCH_CACHE=""
    )
    assert "node.yaml:1: poll: there is no such key (did you mean pool?)" in said["problem"]
    assert 'node.yaml:2: use: "both" is not one of' in said["problem"]
    assert (said["engines"], said["cache"], said["devices"]) == ({}, "/x/fleetbench", [])
