from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleetbench.artifact.vendor_tools import Command, commands
from fleetbench.matrix.types import Calibration, KvFormat, Recipe

MODEL, TARGET = Path("/models/llama"), Path("/made/here")


def asked(**axes: Any) -> dict[str, Command]:
    found = commands(Recipe(name="r", **axes), MODEL, TARGET)
    return {command.argv[0]: command for command in found}


def option(command: Command, name: str) -> str:
    return command.argv[command.argv.index(name) + 1]


@pytest.mark.parametrize(
    ("axes", "modelopt", "quark"),
    [
        ({"weights": "mxfp6", "activations": "mxfp6"}, "mxfp6", "mxfp6_e3m2"),
        ({"weights": "fp8", "scales": "static"}, "fp8", "fp8"),
        ({"weights": "fp8"}, "fp8_per_channel_per_token", "ptpc_fp8"),
        ({"weights": "mxfp4", "activations": "fp8", "scales": "static"}, "w4a8_mxfp4_fp8", "mxfp4_fp8"),
        ({"weights": "int4", "group_size": 64}, None, "int4_wo_64"),
        ({"weights": "nvfp4", "activations": "bf16"}, "w4a16_nvfp4", None),
        ({"weights": "int4", "method": "hqq"}, None, None),
        ({"weights": "q4_k"}, None, None),
    ],
)
def test_a_recipe_has_the_command_of_each_tool_that_makes_it(
    axes: dict[str, Any], modelopt: str | None, quark: str | None
) -> None:
    found = asked(**axes)
    assert (option(found["python"], "--qformat") if "python" in found else None) == modelopt
    assert (option(found["quark-cli"], "--quant_scheme") if "quark-cli" in found else None) == quark


def test_paths_stay_single_arguments() -> None:
    found = commands(Recipe(name="r", weights="mxfp4"), Path("/models/my llama; rm"), TARGET)
    assert all("/models/my llama; rm" in command.argv for command in found)


def test_a_method_of_quark_is_named_beside_its_scheme() -> None:
    command = asked(weights="int4", method="quarot")["quark-cli"]
    assert option(command, "--quant_algo") == "quarot"


def test_a_calibrated_cache_is_asked_for_and_another_is_left_to_the_engine() -> None:
    fp8 = KvFormat(k="fp8", v="fp8")
    text = Calibration(path="corpus.txt", samples=128, sequence_tok=512)
    with_text, without = (asked(weights="fp8", scales="static", kv=fp8, calibration=c) for c in (text, None))
    assert option(with_text["python"], "--kv_cache_qformat") == "fp8"
    assert option(without["python"], "--kv_cache_qformat") == "none"
    assert option(with_text["quark-cli"], "--kv_cache_dtype") == "fp8"
    assert "--kv_cache_dtype" not in without["quark-cli"].argv


def test_what_a_command_does_not_do_is_said() -> None:
    found = asked(weights="mxfp4", calibration=Calibration(path="corpus.txt"), protect=("first 2",))
    assert any("protect first 2" in note for note in found["python"].notes)
    assert any("does not take" in note for note in found["quark-cli"].notes)
    assert option(found["python"], "--dataset") == "corpus.txt.jsonl"
