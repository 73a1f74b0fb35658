from __future__ import annotations

import pickle
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import registry
from fleetbench.engine.protocol import LaunchError, differences
from fleetbench.errors import UnusableEnvironmentError

VALUES = st.dictionaries(st.sampled_from(["kv_k", "weights", "context_tok", "slots"]), st.integers(1, 9))


@given(VALUES)
def test_what_runs_as_asked_makes_no_difference(asked: dict[str, int]) -> None:
    assert differences(asked, {**asked, "more": 1}) == ()


@given(VALUES, VALUES)
def test_each_thing_asked_for_is_judged_once(asked: dict[str, int], runs: dict[str, int]) -> None:
    named = [sentence.split(":")[0] for sentence in differences(asked, runs)]
    assert len(set(named)) == len(named)
    for name, value in asked.items():
        enough = runs.get(name, 0) >= value if name in ("context_tok", "slots") else runs.get(name) == value
        assert (name not in named) == enough


def test_a_difference_says_what_was_asked_and_what_runs() -> None:
    assert differences({"kv_k": "q8_0", "threads": 1}, {"kv_k": "f16", "threads": None}) == (
        "kv_k: asked for q8_0, the engine runs f16",
        "threads: asked for 1, the engine does not say what it runs",
    )


def test_more_room_than_asked_for_is_no_difference_but_less_is() -> None:
    assert differences({"context_tok": 96, "slots": 1}, {"context_tok": 256, "slots": 1}) == ()
    assert len(differences({"context_tok": 2048}, {"context_tok": 1024})) == 1


def test_a_launch_error_survives_pickling() -> None:
    error = LaunchError("llamacpp", "oom", "it ran out of memory", "last\nlines")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert (again.engine, again.cause, again.reason, again.log_tail) == error.args
    assert str(again) == "llamacpp did not come up: it ran out of memory"


@pytest.mark.parametrize(("name", "hint"), [("lamacp", "did you mean llamacpp"), ("zzz", "there are: .*llamacpp")])
def test_an_engine_that_nobody_brings_is_refused_with_the_nearest_or_all(name: str, hint: str) -> None:
    with pytest.raises(UnusableEnvironmentError, match=f"no adapter for the engine {name} is installed .{hint}"):
        registry.engine(name)


def test_an_adapter_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="theirs", value="no.such.module:Adapter", group=registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **_: [point])
    with pytest.raises(
        UnusableEnvironmentError, match=r"the adapter of theirs, no\.such\.module:Adapter, does not load"
    ):
        registry.engine("theirs")
