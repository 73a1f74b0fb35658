"""InferenceX's master configuration as a matrix."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench.matrix.expand import count
from fleetbench.matrix.read import read, read_text
from fleetbench.store.foreign.inferencex import InferenceX
from fleetbench.store.foreign.record import Converted, ForeignError
from tests.cli.inside import inside
from tests.store.foreign.files import DATA, written

MASTER = DATA / "inferencex/nvidia-master.yaml"
ENTRY: dict[str, Any] = {
    "image": "vllm/vllm-openai:v0.25.0",
    "model": "openai/gpt-oss-120b",
    "model-prefix": "gptoss",
    "runner": "cluster:h200-dgxc",
    "precision": "fp4",
    "framework": "vllm",
    "multinode": False,
    "scenarios": {
        "fixed-seq-len": [{"isl": 1024, "osl": 1024, "search-space": [{"tp": 2, "conc-start": 4, "conc-end": 20}]}]
    },
}


def converted(folder: Path, **entries: object) -> Converted:
    return InferenceX().matrix(written(folder, yaml.safe_dump(entries), "master.yaml"))


def asked(text: str) -> set[tuple[str, str, str, int, int]]:
    """Model, engine, hardware, tp and batch of every cell that is not excluded."""
    matrix = read_text(text, "matrix.yaml")
    return {
        (model.name, engine.name, hardware, parallel.tp, point.batch or 0)
        for model in matrix.models
        for engine in matrix.engines
        for hardware in matrix.hardware
        for parallel in matrix.parallel
        for point in matrix.load
        if not any(
            all(
                str(value) in [text for axis, text in rule.match if axis == name] or name not in dict(rule.match)
                for name, value in (
                    ("engine", engine.name),
                    ("hardware", hardware),
                    ("tp", parallel.tp),
                    ("batch", point.batch),
                )
            )
            for rule in matrix.exclude
        )
    }


def test_it_asks_for_the_points_of_the_list_and_no_others() -> None:
    text = InferenceX().matrix(MASTER).text("nvidia-master.yaml")
    sglang = {("deepseek-r1", "sglang", "h200", 8, batch) for batch in (4, 8, 16, 32, 64)}
    wide = {("deepseek-r1", "tensorrt-llm", "b200", 8, batch) for batch in (4, 8, 64, 128, 256)}
    narrow = {("deepseek-r1", "tensorrt-llm", "b200", 4, batch) for batch in (8, 16, 32)}
    assert asked(text) == sglang | wide | narrow


def test_what_it_cannot_ask_for_is_counted_with_why() -> None:
    found = InferenceX().matrix(MASTER)
    assert found.points == 4
    assert found.left_out == {
        "expert parallelism, which no axis says": 5,
        "prefill and decode on nodes of their own, which no axis says": 2,
        "replays of traces, which have no one length": 2,
        "model nvidia/DeepSeek-R1-0528-FP4-V2, which the catalog does not know": 2,
    }
    assert "# Left out:    5 points, expert parallelism" in found.text("nvidia-master.yaml")


def test_a_file_of_it_checks_and_plans(tmp_path: Path) -> None:
    said = inside("import", "--matrix", "inferencex", str(MASTER), "--output", "matrix.yaml", folder=tmp_path)
    assert said.code == 0, said.err
    assert "matrix.yaml: 4 points of nvidia-master.yaml" in said.out
    assert count(read(tmp_path / "matrix.yaml")) == 2 * 2 * 2 * 7
    planned = inside("plan", "matrix.yaml", "--format", "json", folder=tmp_path)
    assert planned.code in (0, 1), planned.err
    assert '"deepseek-r1"' in planned.out


def test_concurrency_doubles_up_to_its_end(tmp_path: Path) -> None:
    matrix = converted(tmp_path, one=ENTRY).matrix
    assert matrix["load"]["batch"] == [4, 8, 16]
    assert "exclude" not in matrix


def test_a_short_name_means_the_format_that_the_model_is_published_in(tmp_path: Path) -> None:
    assert converted(tmp_path, one=ENTRY).matrix["recipes"] == ["mxfp4"]


def test_a_short_name_that_may_be_several_formats_is_left_out(tmp_path: Path) -> None:
    unsure = {**ENTRY, "model": "meta-llama/Llama-3.1-70B-Instruct", "precision": "fp8"}
    found = converted(tmp_path, one=ENTRY, two=unsure)
    assert found.left_out == {"fp8 of meta-llama/Llama-3.1-70B-Instruct, which may be several formats": 1}


def test_lists_of_before_scenarios_are_read_too(tmp_path: Path) -> None:
    old = {key: value for key, value in ENTRY.items() if key != "scenarios"}
    (shape,) = ENTRY["scenarios"]["fixed-seq-len"]
    before = {"isl": 1024, "osl": 1024, "bmk-space": shape["search-space"]}
    found = converted(tmp_path, one={**old, "runner": "h200-trt", "seq-len-configs": [before]})
    assert found.matrix["load"] == {"batch": [4, 8, 16], "context": [1024], "output": [1024]}


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"tp": 0, "conc-list": [1]}, "tp: must be at least 1"),
        ({"tp": 5000, "conc-list": [1]}, "tp: 5000 is more than any degree"),
        ({"tp": 1}, "conc-start: it is missing"),
        ({"tp": 1, "conc-start": 0, "conc-end": 4}, "conc-start: must be at least 1"),
        ({"tp": 1, "conc-start": 8, "conc-end": 4}, "conc-end: 4 is below conc-start, 8"),
        ({"tp": 1, "conc-list": []}, "conc-list: it is empty"),
        ({"tp": 1, "conc-list": ["x"]}, r"conc-list[0]: this is text, where a number should be"),
    ],
)
def test_a_point_that_asks_for_nothing_is_said_with_its_place(
    tmp_path: Path, point: dict[str, Any], message: str
) -> None:
    entry = copy.deepcopy(ENTRY)
    entry["scenarios"]["fixed-seq-len"][0]["search-space"] = [point]
    with pytest.raises(ForeignError) as caught:
        converted(tmp_path, one=entry)
    assert f"one.scenarios.fixed-seq-len[0].search-space[0].{message}" in str(caught.value)


def test_words_of_the_list_stay_in_comments(tmp_path: Path) -> None:
    sly = {**ENTRY, "model": "m\nname: other"}
    text = converted(tmp_path, one=ENTRY, two=sly).text("a\nname: b.yaml")
    assert read_text(text, "matrix.yaml").name == "master"


@settings(max_examples=50)
@given(data=st.data())
def test_junk_in_a_list_is_left_out_or_refused_but_never_breaks(data: st.DataObject) -> None:
    entry = copy.deepcopy(ENTRY)
    shape = entry["scenarios"]["fixed-seq-len"][0]
    place = data.draw(st.sampled_from([entry, entry["scenarios"], shape, shape["search-space"][0]]))
    junk = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([[], [1], {}])
    )
    place[data.draw(st.sampled_from([*sorted(place), "dp-attn", 7]))] = data.draw(junk)
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), yaml.safe_dump({"one": entry}), "master.yaml")
        try:
            text = InferenceX().matrix(path).text("master.yaml")
        except ForeignError:
            return
        assert read_text(text, "matrix.yaml").load


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("- 1\n", "this is a list, where an object should be"),
        ("a: [1\n", "line 2: this is no YAML"),
        ("one: 5\n", "one: this is a number, where an object with"),
        ("one: {multinode: false, scenarios: {fixed-seq-len: 7}}\n", "one.scenarios.fixed-seq-len: this is a number"),
        (
            yaml.safe_dump({"one": {**ENTRY, "model": "m"}}),
            "nothing of it can be asked for by a matrix: model m, which the catalog does not know (1)",
        ),
        ("one: {multinode: false}\n", "one.seq-len-configs: it is missing"),
        ("{}\n", "nothing of it can be asked for by a matrix: it has no entries"),
    ],
)
def test_what_is_no_such_list_is_said_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ForeignError) as caught:
        InferenceX().matrix(written(tmp_path, text, "master.yaml"))
    assert message in str(caught.value)
