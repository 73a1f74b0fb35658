from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import flags
from fleetbench.engine.protocol import LaunchError, LaunchSpec
from fleetbench.engine.vllm import Vllm
from fleetbench.matrix.types import KvFormat, Recipe

SPEC = LaunchSpec(
    model_path=Path("/models/tiny"),
    model_name="tiny",
    checkpoint="source",
    recipe=Recipe(name="bf16", weights="bf16", activations="bf16", kv=KvFormat(k="bf16", v="bf16")),
    slots=4,
    context_tok=512,
    threads=1,
    seed=7,
    log=Path("/logs/engine.log"),
    timeout_s=60,
)


@pytest.mark.parametrize(
    ("engine", "version", "flag", "there"),
    [
        ("vllm", "0.32.0", "--grpc-port", True),
        ("vllm", "0.31.0", "--grpc-port", False),
        ("vllm", "0.32.0+cpu", "--grpc-port", True),
        ("vllm", "0.32.1", "--grpc-port", True),
        ("vllm", "0.30.0", "--enable-mamba-fine-grained-prefix-cache", True),
        ("vllm", "0.31.0", "--enable-mamba-fine-grained-prefix-cache", False),
        ("vllm", "0.33.0", "--disable-prefix-caching", True),
        ("vllm", "0.32.0", "--disable-prefix-caching", False),
        ("sglang", "0.5.15.post1", "--disable-radix-cache", True),
        ("tensorrt-llm", "1.2.1", "--max_batch_size", True),
    ],
)
def test_a_flag_is_known_by_version(engine: str, version: str, flag: str, *, there: bool) -> None:
    assert (flag in flags.known(engine, version)) is there


@pytest.mark.parametrize("version", ["0.21.0", "0.34.0", "1.0", "nightly"])
def test_a_version_that_was_not_looked_at_is_refused(version: str) -> None:
    with pytest.raises(
        LaunchError, match=f"version {version} of it is not supported: its flags are known from"
    ) as refused:
        flags.known("vllm", version)
    assert refused.value.cause == "unsupported"


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
def test_each_list_says_where_it_is_from(engine: str) -> None:
    found = flags.recorded(engine)
    assert found is not None
    assert found.engine == engine
    assert "2026" in found.source
    assert found.verified is (engine != "tensorrt-llm")
    assert all(flag.startswith("-") for known in found.versions.values() for flag in known)


@pytest.mark.parametrize(
    ("words", "lacking"),
    [
        (["serve", "/m", "--port", "1", "--seed", "-1"], ()),
        (["--max_model_len=5", "-tp=2", "-q", "fp8", "-O3"], ()),
        (["--speculative-config.method", "ngram"], ()),
        (["--no-such", "--port", "1", "--nor-this=3"], ("--no-such", "--nor-this")),
        (["--enforce"], ("--enforce",)),
        (["--x.y"], ("--x.y",)),
    ],
)
def test_what_a_command_line_asks_in_vain_is_named_in_order(words: list[str], lacking: tuple[str, ...]) -> None:
    assert flags.missing("vllm", "0.32.0", words) == lacking


def test_underscores_are_vllms_alone() -> None:
    assert flags.missing("sglang", "0.5.23", ["--model_path", "/m"]) == ("--model_path",)


def test_a_wrong_flag_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(
        LaunchError, match=r"0\.32\.0 of it has no --enforce-eagr \(did you mean --enforce-eager\?\)"
    ) as no:
        flags.check("vllm", "0.32.0", ["--enforce-eagr"])
    assert no.value.cause == "arguments"
    assert str(pickle.loads(pickle.dumps(no.value))) == str(no.value)  # noqa: S301  it crosses Ray


def test_the_plan_is_told_in_a_sentence_what_a_version_lacks() -> None:
    assert flags.refusal(Vllm(), SPEC, "0.32.0") is None
    assert "not supported" in (flags.refusal(Vllm(), SPEC, "0.9.0") or ("",))[0]


def test_the_plan_is_told_who_says_that_a_start_is_impossible() -> None:
    apart = replace(SPEC, recipe=replace(SPEC.recipe, kv=KvFormat(k="fp8", v="bf16")))
    found = flags.recorded("vllm")
    assert found is not None
    assert (flags.refusal(Vllm(), replace(SPEC, args=("--no-such",)), "0.32.0") or ("", ""))[1] == found.source
    assert (flags.refusal(Vllm(), apart, "0.32.0") or ("", ""))[1] == "the adapter of vllm"


@pytest.mark.parametrize(("engine", "version", "doubted"), [("vllm", "0.32.0", False), ("tensorrt-llm", "1.2.1", True)])
def test_a_refusal_says_where_no_release_was_looked_at(engine: str, version: str, *, doubted: bool) -> None:
    with pytest.raises(LaunchError, match="has no --no-such") as refused:
        flags.check(engine, version, ["--no-such"])
    assert refused.value.reason.endswith("(as recorded, not checked against a release)") is doubted


@pytest.mark.parametrize(
    ("engine", "version", "flag", "value"),
    [
        ("vllm", "0.24.0", "--kv-cache-dtype", "int4_per_token_head"),
        ("vllm", "0.23.0", "--quantization", "fp8_per_channel"),
        ("sglang", "0.5.12", "--kv-cache-dtype", "nvfp4"),
    ],
)
def test_a_format_that_a_version_lacks_is_refused(engine: str, version: str, flag: str, value: str) -> None:
    with pytest.raises(LaunchError, match=f"version {version} of it has no {flag} {value}") as refused:
        flags.check(engine, version, [flag, value])
    assert refused.value.cause == "unsupported"
    flags.check(engine, "0.33.0" if engine == "vllm" else "0.5.23", [flag, value])


def test_a_format_that_the_node_adds_is_left_to_its_plugins() -> None:
    own, added = ["--port", "1"], ["--quantization", "of-a-plugin"]
    with pytest.raises(LaunchError, match="of-a-plugin"):
        flags.check("vllm", "0.32.0", [*own, *added])
    flags.check("vllm", "0.32.0", own, added)


@given(st.lists(st.text(max_size=20), max_size=5))
def test_any_words_are_judged_without_an_error(words: list[str]) -> None:
    assert set(flags.missing("vllm", "0.33.0", words)) <= {word.partition("=")[0] for word in words}
