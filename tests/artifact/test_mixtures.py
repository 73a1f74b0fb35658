"""The tables against what llama.cpp's own tool chose, recorded in mixtures_oracle.json (its `source` says how)."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import gguf
import pytest

from fleetbench.artifact import mixtures, quantize
from fleetbench.artifact.mixtures import MIXTURES, Network

RECORD = json.loads(Path(__file__).with_name("mixtures_oracle.json").read_text())
ORACLE: dict[str, Any] = RECORD["models"]
CASES = [(model, variant) for model, entry in ORACLE.items() for variant in entry["types"]]
_EXPERTS = "_exps"


def recorded(model: str, variant: str) -> dict[str, tuple[int, str]]:
    """Of every tensor by its name: row length, and the type that llama.cpp gave it."""
    entry = ORACLE[model]
    layers, experts = entry["network"]["layers"], entry["network"]["experts"]
    found = {}
    for part, letters in (word.split("=") for word in entry["types"][variant].split()):
        row = entry["rows"].get(part, entry["rows"]["token_embd"])
        if part in ("token_embd", "output"):
            found[f"{part}.weight"] = (row, RECORD["letters"][letters])
            continue
        suffix = _EXPERTS if experts and part.startswith("ffn") else ""
        for layer, letter in enumerate(letters if len(letters) > 1 else letters * layers):
            found[f"blk.{layer}.{part}{suffix}.weight"] = (row, RECORD["letters"][letter])
    return found


@pytest.mark.parametrize(("model", "variant"), CASES, ids=[f"{m}-{v}" for m, v in CASES])
def test_every_tensor_gets_the_type_that_llama_cpp_gives_it(model: str, variant: str) -> None:
    name, _, matrix = variant.partition("+")
    network = Network(**ORACLE[model]["network"], weighed=bool(matrix))
    wanted = recorded(model, variant)
    got = {n: mixtures.type_of(MIXTURES[name], network, n, row).name for n, (row, _) in wanted.items()}
    assert got == {n: kind for n, (_, kind) in wanted.items()}


def test_the_record_has_every_mixture_for_every_kind_of_model() -> None:
    assert all(MIXTURES.keys() <= entry["types"].keys() for entry in ORACLE.values())
    networks = [Network(**entry["network"]) for entry in ORACLE.values()]
    for feature in ("shared", "mixtral", "llama_70b", "tied"):
        assert {getattr(network, feature) for network in networks} == {True, False}
    rows = [row for entry in ORACLE.values() for row in entry["rows"].values()]
    assert Counter((row % 256 == 0, row % 32 == 0) for row in rows).keys() == {
        (True, True),
        (False, True),
        (False, False),
    }


def test_an_importance_matrix_changes_types_in_one_mixture_only() -> None:
    changed = set()
    for entry in ORACLE.values():
        plain = Network(**entry["network"])
        weighed = dataclasses.replace(plain, weighed=True)
        for name, mixture in MIXTURES.items():
            parts = {f"blk.1.{part}.weight": row for part, row in entry["rows"].items() if part != "token_embd"}
            if any(
                mixtures.type_of(mixture, plain, n, row) != mixtures.type_of(mixture, weighed, n, row)
                for n, row in parts.items()
            ):
                changed.add(name)
    assert changed == {"iq3_xxs"}


def test_what_the_library_cannot_make_without_a_matrix_is_known_to_need_one() -> None:
    kinds = {kind for kind in gguf.GGMLQuantizationType if quantize.requires_matrix(kind)}
    assert kinds == {gguf.GGMLQuantizationType[name] for name in ("IQ2_XXS", "IQ2_XS", "IQ1_S")}
    assert all(mixtures.needs_matrix(MIXTURES["iq1_s"], "blk.0.attn_q.weight", kind) for kind in kinds)
    assert not mixtures.needs_matrix(MIXTURES["iq1_s"], "token_embd.weight", gguf.GGMLQuantizationType.IQ2_XS)
