"""A fleet as a file says it: what a plan is made for, and every way of writing it wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleetbench.catalog import lookup
from fleetbench.errors import InputError
from fleetbench.fleet.fleet_file import every_kind, read_fleet, this_machine
from fleetbench.plan.types import Fleet, NodeKind

EXAMPLE = Path(__file__).parents[2] / "infra" / "fleets" / "example.yaml"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet.yaml"


def mistakes(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_fleet(path)
    assert all(str(path) in one for one in caught.value.mistakes)
    return str(caught.value)


def fleet(path: Path, text: str) -> Fleet:
    path.write_text(text)
    return read_fleet(path)


def test_nodes_are_counted_and_their_engines_named(path: Path) -> None:
    found = fleet(path, "nodes: [{hardware: h100, gpus: 4, count: 3, engines: [vllm==0.33.0, sglang==0.5.23]}]")
    assert found.kinds == {
        "h100": NodeKind(hardware="h100", gpus=4, nodes=3, engines={"vllm": "0.33.0", "sglang": "0.5.23"})
    }
    assert "fleet.yaml" in found.about


def test_what_is_left_out_is_the_usual_node_once_with_whatever_engine(path: Path) -> None:
    found = fleet(path, "nodes: {hardware: H100-SXM}")
    assert found.kinds == {"h100": NodeKind(hardware="h100", gpus=8, nodes=1, engines=None)}


def test_the_example_of_the_repository_is_a_fleet() -> None:
    kinds = read_fleet(EXAMPLE).kinds
    assert set(kinds) == {"a100-80g", "h100", "b200", "mi300x"}
    for kind in kinds.values():
        for name, version in (kind.engines or {}).items():
            spec = lookup.engine_spec(name)
            assert spec is not None
            assert version in spec.known


def test_without_a_fleet_there_are_nodes_of_every_kind_of_the_catalog() -> None:
    fleet = every_kind()
    assert set(fleet.kinds) == set(lookup.gpu_names())
    assert all(kind.engines is None for kind in fleet.kinds.values())


def test_this_machine_is_one_node_without_gpus_of_its_own() -> None:
    fleet = this_machine({"llamacpp": "1"})
    assert fleet.kinds == {"local": NodeKind(hardware="local", gpus=0, nodes=1, engines={"llamacpp": "1"})}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a mapping"),
        ("- h100", "must be a mapping"),
        ("nodes: []", "nodes: is empty"),
        ("node: {hardware: h100}", "did you mean nodes?"),
        ("nodes: {hardware: h100, gpu: 8}", "nodes[0].gpu: unknown key (did you mean gpus?)"),
        ("nodes: {hardware: h100, zzz: 8}", "known: hardware, gpus, count, engines, use"),
        ("nodes: {gpus: 8}", "nodes[0].hardware: is missing"),
        ("nodes: {hardware: h1000}", '"h1000" is no known hardware (did you mean h100'),
        ("nodes: {hardware: 4090}", "must be text (put it in quotes), not 4090"),
        ("nodes: {hardware: h100, engines: vlm==1}", '"vlm" is no known engine (did you mean vllm?)'),
        ("nodes: {hardware: h100, engines: vllm}", "engines[0].version: is missing"),
        ("nodes: {hardware: h100, engines: vllm==new}", '"new" is no version'),
        ("nodes: {hardware: h100, engines: {name: vllm, version: 0.33.0, versio: 1}}", "did you mean version?"),
        ("nodes: {hardware: h100, engines: [vllm==0.33.0, vllm==0.32.0]}", "vllm stands twice"),
        ("nodes: {hardware: h100, gpus: -1}", "nodes[0].gpus: must be at least 0"),
        ("nodes: {hardware: h100, count: 0}", "nodes[0].count: must be at least 1"),
        ("nodes: {hardware: h100, count: true}", "must be a whole number, not true"),
        ("nodes: [{hardware: h100}, {hardware: h100-sxm}]", "h100 stands twice (put its nodes together)"),
        ("nodes: {hardware: [h100", "is no YAML"),
        ("nodes: !!python/object/apply:os.getcwd []", "is no YAML"),
        ("[" * 30_000, "is no YAML"),
        ("nodes: {1: 2}", "nodes[0].hardware: is missing"),
        (f"name: {'x' * 1_000_000}", "larger than 1000000 bytes"),
    ],
)
def test_each_mistake_is_named_with_its_place_and_a_remedy(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    assert said in mistakes(path)


def test_all_mistakes_come_at_once(path: Path) -> None:
    path.write_text("nodes: [{hardware: h1000}, {hardware: h100, count: 0, gpu: 1}]")
    assert len(mistakes(path).splitlines()) == 3


def test_what_is_no_file_is_said_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, said in (
        (".", "not a regular file"),
        ("pipe", "not a regular file"),
        ("none.yaml", "No such file"),
        ("loop", "cannot be read"),
        ("x" * 400, "cannot be read"),
    ):
        assert said in mistakes(tmp_path / name)


def test_a_file_that_is_no_utf8_is_said(path: Path) -> None:
    path.write_bytes(b"nodes: \xff")
    assert "is no YAML" in mistakes(path)
