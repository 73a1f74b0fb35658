"""Labels: what Ray takes, and what comes back out of them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fleetbench.catalog import lookup
from fleetbench.fleet.nodes import labels
from fleetbench.fleet.nodes.facts import Device, NodeFacts
from tests.fleet.cluster import bare_facts

KUBERNETES = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?")
"""A label's value by the syntax of Kubernetes, which Ray follows."""
VALUES = st.from_regex(KUBERNETES, fullmatch=True)


def with_gpus(count: int, *, memory_bytes: int | None = 85520809984, driver: str | None = "580.65.06") -> NodeFacts:
    device = Device(
        index=0, name="NVIDIA H100 80GB HBM3", kind="h100", uuid=None, memory_bytes=memory_bytes, used_bytes=0
    )
    return replace(bare_facts(), devices=tuple(replace(device, index=n) for n in range(count)), driver=driver)


def entry(found: dict[str, str], **more: Any) -> dict[str, Any]:
    """One of `ray.nodes()`."""
    return {"NodeID": "ab" * 28, "Alive": True, "Labels": found, "Resources": {}, "NodeManagerHostname": "box", **more}


@given(st.text(max_size=200))
def test_any_text_becomes_a_value_that_ray_takes_or_none(text: str) -> None:
    value = labels.label_value(text)
    assert value == "" or KUBERNETES.fullmatch(value)
    assert labels.label_value(value) == value


@given(VALUES)
def test_what_fits_stays_as_it_is(text: str) -> None:
    assert labels.label_value(text) == text


@given(name=st.text(max_size=90), pool=st.text(max_size=90), driver=st.text(max_size=90), version=st.text(max_size=90))
def test_labels_of_any_node_are_fit_for_ray_and_its_command_line(
    name: str, pool: str, driver: str, version: str
) -> None:
    facts = replace(with_gpus(2), pool=pool, driver=driver, version=version)
    for key, value in labels.labels_of(facts, tag="h100", gpus=2, name=name).items():
        assert KUBERNETES.fullmatch(value), key


@given(name=VALUES, pool=VALUES, gpus=st.integers(0, 1024), use=st.sampled_from(["shared", "whole"]))
def test_a_node_comes_back_out_of_its_labels(name: str, pool: str, gpus: int, use: Any) -> None:
    facts = replace(with_gpus(1), pool=pool, use=use)
    node = labels.node_of(entry(labels.labels_of(facts, tag="sim-h100", gpus=gpus, name=name)))
    assert node is not None
    assert (node.name, node.pool, node.gpus, node.use, node.hardware) == (name, pool, gpus, use, "sim-h100")


def test_every_kind_of_the_catalog_is_its_own_label() -> None:
    for name in lookup.gpu_names():
        assert labels.label_value(f"{lookup.SIMULATED}{name}") == f"{lookup.SIMULATED}{name}"


def test_what_nobody_knows_has_no_label() -> None:
    found = labels.labels_of(with_gpus(1, memory_bytes=None, driver=None), tag="h100", gpus=1, name="box")
    assert labels.MEMORY_GIB not in found
    assert labels.DRIVER not in found
    assert labels.labels_of(with_gpus(8), tag="h100", gpus=8, name="box")[labels.MEMORY_GIB] == "79"


def test_a_head_that_is_not_measured_on_and_nodes_of_others_are_no_nodes_of_ours() -> None:
    head = labels.labels_of(bare_facts(), tag=None, gpus=0, name="box")
    assert labels.node_of(entry(head)) is None
    assert labels.node_of(entry({"ray.io/accelerator-type": "H100"})) is None


def test_labels_that_a_person_wrote_by_hand_need_only_the_tag() -> None:
    node = labels.node_of(entry({labels.GPU: "h100", labels.USE: "maybe"}, Resources={"GPU": 4.0}))
    assert node is not None
    assert (node.name, node.gpus, node.use, node.pool) == ("box", 4, "whole", "default")
