from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import lease, start
from fleetbench.engine.endpoint import Endpoint
from fleetbench.engine.protocol import LaunchError, Said, Session
from fleetbench.engine.runtime import NodeEngine, Url
from tests.engine.conftest import fake_spec

ADAPTER = Endpoint()
VLLM = {
    "/v1/models": {"data": [{"id": "m", "root": "/models/m", "max_model_len": 4096}]},
    "/version": {"version": "0.32.0"},
}
SGLANG = {
    "/v1/models": {"data": [{"id": "m", "root": "m", "max_model_len": 2048}]},
    "/get_server_info": {
        "model_path": "/models/m",
        "tp_size": 2,
        "max_running_requests": 64,
        "quantization": "fp8",
        "kv_cache_dtype": "fp8_e4m3",
        "dtype": "auto",
        "disable_radix_cache": True,
    },
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "n_ctx", "id"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def effective(answers: dict[str, Any]) -> dict[str, Any]:
    told = {**dict.fromkeys(ADAPTER.asks), **answers}
    return ADAPTER.effective(Said(log="", answers=told, version="1"))


def test_a_vllm_says_its_model_and_its_longest_sequence() -> None:
    told = effective(VLLM)
    assert (told["model"], told["model_root"], told["context_tok"]) == ("m", "/models/m", 4096)
    assert told["slots"] is None


def test_an_sglang_says_its_formats_and_its_parallelism() -> None:
    told = effective(SGLANG)
    assert (told["tp"], told["slots"], told["context_tok"]) == (2, 64, 2048)
    assert (told["quantization"], told["kv_cache_dtype"], told["prefix_caching"]) == ("fp8", "fp8_e4m3", False)


@given(st.dictionaries(st.sampled_from(ADAPTER.asks), JSON))
def test_whatever_a_server_answers_is_read_or_left(answers: dict[str, Any]) -> None:
    assert effective(answers)["version"] == "1"


def test_nothing_is_started(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="write `url:`"):
        ADAPTER.command(fake_spec(tmp_path), "1", tmp_path, 1)


@pytest.mark.engine
def test_a_running_server_is_found_by_its_address_alone(tiny_session: Session, tmp_path: Path) -> None:
    url = tiny_session.receipt.base_url
    engine = NodeEngine(name="endpoint", runtime=Url(base_url=url))
    spec = fake_spec(tmp_path, slots=4, context_tok=1024)
    with start.start(ADAPTER, engine, spec, lease.new_lease("test")) as session:
        receipt = session.receipt
        assert (receipt.base_url, receipt.model_alias) == (url, "tiny")
        assert receipt.differences == ()
        assert receipt.requested == {"context_tok": 1024, "slots": 4}
        assert receipt.effective["file_type"] == "F16"
        assert session.alive()
    assert tiny_session.alive()


@pytest.mark.engine
def test_a_running_server_that_has_less_room_is_a_difference(tiny_session: Session, tmp_path: Path) -> None:
    engine = NodeEngine(name="endpoint", runtime=Url(base_url=tiny_session.receipt.base_url))
    spec = fake_spec(tmp_path, slots=8, context_tok=1024)
    found = start.start(ADAPTER, engine, spec, lease.new_lease("test"))
    assert found.receipt.differences == ("slots: asked for 8, the engine runs 4",)
