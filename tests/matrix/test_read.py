from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench import resources
from fleetbench.catalog import lookup
from fleetbench.errors import InputError
from fleetbench.matrix import expand, read
from fleetbench.matrix.types import KvFormat, LoadPoint, Parallel, Warmup

QUICKSTART = resources.root("matrices") / "smoke" / "quickstart.yaml"
FULL = """\
name: full
analysis: Everything that a matrix can say.
models:
  - {name: tiny, measure: [quality]}
  - {name: ladder-75m, measure: speed}
engines: [llamacpp, vllm]
hardware: [local, h100]
parallel: {tp: [1, 2], pp: 1}
reference: f16
recipes:
  - f16
  - q8_0
  - {name: q4-kv8, weights: q4_k, kv: q8_0}
  - {name: mixed, weights: q4_k, kv: {k: q8_0, v: q4_0}, method: gptq, group_size: 128,
     calibration: c4, protect: [lm_head], activations: fp8, attention: fp8}
load:
  batch: [1, 4]
  context: [64, 256]
  output: 32
  requests: 4
  warmup: 0
repeats: 2
seed: 7
quality: {suite: embedded, items: 10}
slo: {ttft_p99_ms: 500, itl_p99_ms: 50.5}
limits: {launch: 10m, trial: 1h30m, cost_usd: 50}
exclude: [{hardware: h100, weights: [q4_k, q8_0], batch: 4, because: no FP4 tensor cores}]
"""
COUNTS = ("load.batch", "load.context", "load.output", "load.requests", "parallel.tp", "parallel.pp", "parallel.dp")
WARMUP = ("load.warmup", "load.warmup.requests", "load.warmup.context", "load.warmup.output")
SCALARS = (*COUNTS, *WARMUP, "repeats", "seed", "quality.items", "slo.ttft_p99_ms", "slo.itl_p99_ms")
NOT_NUMBERS: tuple[Any, ...] = (True, False, "x", "", {"a": 1}, None, float("nan"), float("inf"), float("-inf"), [[1]])
LISTS = ("models", "engines", "hardware", "parallel", "recipes", "load.batch", "load.context", "load.output")
MAPPINGS = ("load", "quality", "slo", "limits")
WORDS = ("name", "analysis", "reference", "engines", "hardware", "recipes", "models", "quality.suite")
REQUIRED = ("name", "analysis", "models", "engines", "reference", "recipes", "load.context", "load.output")


def base() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(FULL)
    tree["parallel"] = {"tp": 1}
    return tree


def put_in_base(path: str, value: Any) -> dict[str, Any]:
    tree = place = base()
    if path.startswith("load.warmup."):
        tree["load"]["warmup"] = {"requests": 1}
    *before, last = path.split(".")
    for step in before:
        place = place.setdefault(step, {})
    place[last] = value
    return tree


def mistakes(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read.read_text(text, "m.yaml")
    found = list(caught.value.mistakes)
    assert all(re.match(r"(m\.yaml(:\d+)?: |\.\.\. and )", line) for line in found), found
    assert all(line.isprintable() for line in found)
    return found


def broken(path: str, value: Any) -> list[str]:
    return mistakes(yaml.safe_dump(put_in_base(path, value)))


def test_the_whole_format_is_read() -> None:
    matrix = read.read_text(FULL, "m.yaml")
    assert matrix.name == "full"
    assert [model.measure for model in matrix.models] == [("quality",), ("speed",)]
    assert matrix.parallel == (Parallel(tp=1), Parallel(tp=2))
    assert matrix.recipes[2].kv == KvFormat(k="q8_0", v="q8_0")
    assert str(matrix.recipes[3].kv) == "k=q8_0 v=q4_0"
    assert matrix.recipes[3].protect == ("lm_head",)
    assert matrix.load[1] == LoadPoint(batch=1, context_tok=256, output_tok=32)
    assert matrix.limits.launch_s == 600
    assert matrix.limits.trial_s == 5400
    assert matrix.exclude[0].match == (
        ("weights", "q4_k"),
        ("weights", "q8_0"),
        ("hardware", "h100"),
        ("batch", "4"),
    )


def test_what_is_left_out_has_its_default() -> None:
    text = "{name: a, analysis: b, models: tiny, engines: llamacpp, reference: f16, recipes: f16, quality: "
    text += "{suite: embedded}}"
    matrix = read.read_text(text, "m.yaml")
    assert matrix.models[0].measure == ("quality",)
    assert matrix.hardware == ("local",)
    assert matrix.parallel == (Parallel(),)
    assert (matrix.repeats, matrix.seed, matrix.load) == (1, 0, ())
    assert matrix.quality is not None
    assert matrix.quality.items == 300
    assert matrix.limits.trial_s == 900


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (0, Warmup(requests=0)),
        (3, Warmup(requests=3)),
        ({"requests": 3}, Warmup(requests=3)),
        ({"requests": 1, "output": 4}, Warmup(requests=1, output_tok=4)),
        ({"requests": 1, "context": 16, "output": 4}, Warmup(requests=1, context_tok=16, output_tok=4)),
    ],
    ids=repr,
)
def test_a_warm_up_has_a_number_and_may_have_lengths(written: Any, meant: Warmup) -> None:
    assert read.read_text(yaml.safe_dump(put_in_base("load.warmup", written)), "m.yaml").effort.warmup == meant


@pytest.mark.parametrize(
    ("axis", "written", "meant"),
    [
        ("batch", 4.0, "4"),
        ("batch", "4", "4"),
        ("rate", 2.50, "2.5"),
        ("kv", "q8_0", "q8_0"),
        ("kv", "k=q8_0 v=q4_0", "k=q8_0 v=q4_0"),
        ("kv", "k=q8_0 v=q8_0", "q8_0"),
    ],
)
def test_an_excluded_value_is_text_as_a_cell_says_it(axis: str, written: Any, meant: str) -> None:
    text = yaml.safe_dump(put_in_base("exclude", [{axis: written, "because": "x"}]))
    assert read.read_text(text, "m.yaml").exclude[0].match == ((axis, meant),)


def test_a_sentence_may_have_several_lines() -> None:
    text = yaml.safe_dump(put_in_base("analysis", "What is fast?\n\tAnd what is good?"))
    assert read.read_text(text, "m.yaml").analysis == "What is fast?\n\tAnd what is good?"


def test_a_number_of_warm_up_requests_is_the_same_matrix_as_its_mapping() -> None:
    short, long = (yaml.safe_dump(put_in_base("load.warmup", written)) for written in (2, {"requests": 2}))
    assert read.read_text(short, "m.yaml") == read.read_text(long, "m.yaml")


def test_open_loop_points_have_a_rate_and_no_batch() -> None:
    tree = base()
    tree["load"] = {"rate": [2, 5.5], "context": 64, "output": 8}
    points = read.read_text(yaml.safe_dump(tree), "m.yaml").load
    assert [(point.batch, point.rate, point.arrivals) for point in points] == [
        (None, 2.0, "poisson"),
        (None, 5.5, "poisson"),
    ]


def test_the_quickstart_is_valid_and_asks_for_twenty_speed_cells() -> None:
    matrix, lines = read.read_with_lines(QUICKSTART)
    assert len(matrix.load) * len(matrix.recipes) == 20
    assert expand.count(matrix) == 25
    assert lines.at("load.context[1]") == 12


@pytest.mark.parametrize("path", [*SCALARS, "load.rate", "limits.launch", "limits.trial", "limits.cost_usd"])
@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
def test_what_is_no_number_is_refused_where_it_stands(path: str, value: Any) -> None:
    assert any(f": {path}" in line for line in broken(path, value))


@pytest.mark.parametrize("path", [*COUNTS, *WARMUP[2:], "repeats", "quality.items", "slo.ttft_p99_ms", "limits.launch"])
@pytest.mark.parametrize("value", [0, -1, -(10**17), 10**17])
def test_zero_negative_and_absurd_sizes_are_refused(path: str, value: int) -> None:
    assert any(f": {path}" in line and str(value) in line for line in broken(path, value))


@pytest.mark.parametrize("path", [*COUNTS, *WARMUP, "repeats", "seed", "quality.items"])
@pytest.mark.parametrize("value", [1.5, 2.0, "2"])
def test_a_fraction_or_a_quoted_number_is_no_count(path: str, value: Any) -> None:
    assert any(f": {path}" in line and "whole number" in line for line in broken(path, value))


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("value", [[], None])
def test_an_empty_axis_is_refused(path: str, value: Any) -> None:
    assert any(f": {path}: is empty" in line for line in broken(path, value))


@pytest.mark.parametrize("path", MAPPINGS)
@pytest.mark.parametrize("value", [3, "word", True, [1], None, 1.5])
def test_what_is_no_mapping_is_refused(path: str, value: Any) -> None:
    assert any(f": {path}: " in line for line in broken(path, value))


@pytest.mark.parametrize("path", WORDS)
@pytest.mark.parametrize("value", ["", " ", 5, True, 1.5, [[]], None, {"x": 1}])
def test_what_is_no_word_is_refused(path: str, value: Any) -> None:
    assert any(f": {path}" in line for line in broken(path, value))


@pytest.mark.parametrize("path", REQUIRED)
def test_a_missing_key_is_named_with_the_line_around_it(path: str) -> None:
    tree = base()
    *before, last = path.split(".")
    holder = tree[before[0]] if before else tree
    del holder[last]
    assert any(f": {path}: is missing" in line for line in mistakes(yaml.safe_dump(tree)))


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("modles", "models"),
        ("Name", "name"),
        ("recipe", "recipes"),
        ("load.contexts", "context"),
        ("load.batches", "batch"),
        ("load.warmup.contexts", "context"),
        ("quality.suit", "suite"),
        ("slo.ttft_p99", "ttft_p99_ms"),
        ("limits.cost", "cost_usd"),
        ("parallel.tpp", "tp"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(path: str, near: str) -> None:
    assert any(f": {path}: unknown key (did you mean {near}?)" in line for line in broken(path, 1))


@pytest.mark.parametrize(
    ("path", "value", "near"),
    [
        ("engines", ["llama.cp"], "llamacpp"),
        ("hardware", ["H10"], "h100"),
        ("models", ["tinny"], "tiny"),
        ("models", ["ladder"], "ladder-75m"),
        ("recipes", ["f16", "q4_K"], "q4_k"),
        ("recipes", ["f16", {"name": "x", "weights": "Q8_0"}], "q8_0"),
        ("recipes", ["f16", {"name": "x", "weights": "q8_0", "kv": "q8"}], "q8_0"),
        ("recipes", ["f16", {"name": "x", "weights": "q8_0", "kv": {"v": "q40"}}], "q4_0"),
        ("recipes", ["f16", {"name": "x", "weights": "q8_0", "method": "gtpq"}], "gptq"),
        ("recipes", ["f16", {"name": "x", "weights": "q8_0", "activations": "fp88"}], "fp8"),
        ("quality.suite", "embed", "embedded"),
        ("reference", "f17", '"f16"'),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(path: str, value: Any, near: str) -> None:
    assert any(f": {path}" in line and f"did you mean {near}" in line for line in broken(path, value))


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("models", ["tiny", {"name": "tiny", "path": "x"}], "models[1]"),
        ("models", [{"name": "tiny", "measure": ["speed", "speed"]}], "models[0].measure[1]"),
        ("recipes", ["f16", {"name": "f16", "weights": "q8_0"}], "recipes[1]"),
        ("engines", ["llamacpp", "llamacpp"], "engines[1]"),
        ("hardware", ["local", "h100", "local"], "hardware[2]"),
        ("load.batch", [1, 4, 1], "load.batch[2]"),
        ("load.context", [64, 64], "load.context[1]"),
        ("load.output", [1, 1], "load.output[1]"),
        ("parallel", [{"tp": 1}, {"tp": 1}], "parallel[1]"),
        ("parallel", [{"tp": [1, 2]}, {"tp": 2, "pp": 1}], "parallel[1]"),
        ("parallel", {"tp": [2, 2]}, "parallel.tp[1]"),
    ],
)
def test_what_stands_twice_is_refused_at_its_second_place(path: str, value: Any, where: str) -> None:
    assert any(f": {where}: " in line and "twice" in line for line in broken(path, value))


def test_rates_of_equal_size_are_the_same_rate() -> None:
    found = broken("load", {"rate": [1, 1.0], "context": 1, "output": 1})
    assert any("load.rate[1]" in line and "twice" in line for line in found)


@pytest.mark.parametrize(
    ("path", "value", "where", "word"),
    [
        ("load", {"context": 1, "output": 1}, "load", "neither batch nor rate"),
        ("load", {"batch": 1, "rate": 1, "context": 1, "output": 1}, "load", "both batch and rate"),
        ("load.warmup", {"context": 16}, "load.warmup.requests", "is missing"),
        ("load.warmup", -1, "load.warmup", "at least 0, not -1"),
        ("load.arrivals", "poisson", "load.arrivals", "needs rate"),
        ("load.arrivals", "often", "load.arrivals", "'constant' or 'poisson'"),
        ("models", ["meta/llama/x"], "models[0]", "hub id"),
        ("models", [{"name": "a b", "path": "x"}], "models[0].name", "no name"),
        ("models", [{"name": "mine"}], "models[0].name", "needs a path"),
        ("models", [{"name": "tiny", "measure": "speed"}], "quality", "no model measures quality"),
        ("models", [{"name": "tiny", "measure": "quality"}], "load", "no model measures speed"),
        ("models", [{"name": "tiny", "measure": "taste"}], "models[0].measure", "'speed' or 'quality'"),
        ("name", "../x", "name", "no name"),
        ("recipes", ["f\n16\u2028"], "reference", "not among the recipes"),
        ("name", "x" * 65, "name", "no name"),
        ("analysis", "x" * 2001, "analysis", "at most 2000"),
        ("limits.launch", "soon", "limits.launch", "duration"),
        ("limits.launch", "0s", "limits.launch", "more than 0"),
        ("exclude", [{"because": "x"}], "exclude[0]", "names no axis"),
        ("exclude", [{"gpu": "h100", "because": "x"}], "exclude[0].gpu", "unknown key"),
        ("exclude", [{"hardwear": "h100", "because": "x"}], "exclude[0].hardwear", "did you mean hardware"),
        ("exclude", [{"hardware": "h100"}], "exclude[0].because", "is missing"),
        ("exclude", [{"recipe": ["f16", "q2k"], "because": "x"}], "exclude[0].recipe", "not among the recipes"),
        ("exclude", [{"recipe": "q2k", "because": "x"}], "exclude[0].recipe", "not among the recipes"),
        ("exclude", [{"tp": True, "because": "x"}], "exclude[0].tp", "a whole number from 1"),
        ("exclude", [{"batch": "", "because": "x"}], "exclude[0].batch", "a whole number from 1"),
        ("exclude", [{"batch": [1, -4], "because": "x"}], "exclude[0].batch[1]", "not -4"),
        ("exclude", [{"context": 1e308, "because": "x"}], "exclude[0].context", "not 1e+308"),
        ("exclude", [{"output": 1.5, "because": "x"}], "exclude[0].output", "not 1.5"),
        ("exclude", [{"rate": 0, "because": "x"}], "exclude[0].rate", "above 0"),
        ("exclude", [{"recipe": "", "because": "x"}], "exclude[0].recipe", "no name"),
        ("exclude", [{"weights": "q9_k", "because": "x"}], "exclude[0].weights", "no known weight format"),
        ("exclude", [{"kv": "k=q8_0 v=q9_0", "because": "x"}], "exclude[0].kv", "no known KV format"),
        ("exclude", [{"tp": 1, "because": "a\x1b[31m"}], "exclude[0].because", "control character"),
        ("analysis", "a\x1b]0;title\x07", "analysis", 'control character "\\u001b"'),
        ("name", "a\x07", "name", "no name"),
        ("recipes", ["f16", {"name": "other", "weights": "f16"}], "recipes[1]", "under another name"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(path: str, value: Any, where: str, word: str) -> None:
    assert any(f": {where}: " in line and word in line for line in broken(path, value))


def test_more_items_than_the_suite_has_are_refused_on_their_line() -> None:
    suite = lookup.suite_info("embedded")
    assert suite is not None
    most = FULL.replace("items: 10", f"items: {suite.max_items}")
    quality = read.read_text(most, "m.yaml").quality
    assert quality is not None
    assert quality.items == suite.max_items
    number = 1 + FULL[: FULL.index("quality: {")].count("\n")
    (found,) = mistakes(FULL.replace("items: 10", f"items: {suite.max_items + 1}"))
    assert found.startswith(f"m.yaml:{number}: quality.items: must be at most {suite.max_items}, ")


def test_quality_asked_of_a_model_and_of_no_suite_is_refused() -> None:
    tree = base()
    del tree["quality"]
    assert any("asks for quality, but the matrix has no quality" in line for line in mistakes(yaml.safe_dump(tree)))


def test_a_matrix_that_measures_nothing_is_refused() -> None:
    tree = base()
    del tree["quality"], tree["load"]
    assert any("asks for nothing" in line for line in mistakes(yaml.safe_dump(tree)))


def test_every_mistake_is_reported_at_once_in_the_order_of_lines() -> None:
    text = FULL.replace("llamacpp", "lamacpp").replace("seed: 7", "seed: -7").replace("[64, 256]", "[0, 0x, true]")
    text = text.replace("name: full", "name: !x full\nname: again")
    found = mistakes(text)
    lines = [int(line.split(":")[1]) for line in found]
    assert lines == sorted(lines)
    assert [line.split(": ")[1] for line in found[2:]] == [
        "engines[0]",
        "load.context[0]",
        "load.context[1]",
        "load.context[2]",
        "seed",
    ]


def test_a_mistake_carries_the_line_of_its_value() -> None:
    number = 1 + FULL[: FULL.index("repeats:")].count("\n")
    assert mistakes(FULL.replace("repeats: 2", "repeats: many")) == [
        f'm.yaml:{number}: repeats: must be a whole number, not "many"'
    ]


def test_a_matrix_beyond_a_million_cells_is_refused_before_it_is_multiplied_out() -> None:
    tree = base()
    for axis in ("batch", "context", "output"):
        tree["load"][axis] = list(range(1, 2001))
    text = yaml.safe_dump(tree, default_flow_style=None, width=10**6)
    (found,) = mistakes(text)
    line = 1 + text[: text.index("batch: [1, 2,")].count("\n")
    assert found.startswith(f"m.yaml:{line}: load.batch: the matrix has ")
    assert "cells, more than 1,000,000: models 2, " in found
    assert "load.batch 2,000, load.context 2,000, load.output 2,000 (shorten an axis)" in found


def test_hundreds_of_mistakes_are_cut_and_counted() -> None:
    found = broken("load.batch", [-n for n in range(500)])
    assert len(found) == read.MAX_MISTAKES + 1
    assert found[-1] == "... and 300 more"


def test_the_order_of_keys_and_the_way_of_writing_do_not_change_the_matrix() -> None:
    tree = base()
    shuffled = dict(reversed(copy.deepcopy(tree).items()))
    shuffled["recipes"][0] = {"weights": "f16", "name": "f16"}
    shuffled["recipes"][2]["kv"] = {"v": "q8_0", "k": "q8_0"}
    shuffled["parallel"] = [{"pp": [1], "tp": [1]}]
    shuffled["load"]["output"] = [32]
    shuffled["limits"]["launch"] = 600
    flow = yaml.safe_dump(shuffled, sort_keys=False, default_flow_style=True)
    assert read.read_text(flow, "m.yaml") == read.read_text(yaml.safe_dump(tree), "n.yaml")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"---\n", "not a mapping"),
        (b"- a\n", "not a mapping"),
        (b"word", "not a mapping"),
        (b"a: \xff\n", "not UTF-8"),
        ("name: x".encode("utf-16"), "not UTF-8"),
        (b"\x00" * 10, "control character"),
        (b"a: 1\n" * 300_000, "larger than"),
    ],
)
def test_a_file_that_is_no_matrix_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=word):
        read.read(path)


def test_a_missing_file_a_folder_and_a_device_are_refused(tmp_path: Path) -> None:
    for path, word in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "is a folder"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path / "a\0b", "no such file"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        with pytest.raises(InputError, match=word):
            read.read(path)


@pytest.mark.parametrize("written", ["./none", "~nobody-by-this-name/x", "./" + "x" * 300])
def test_a_model_folder_that_is_not_there_is_refused_with_its_line(tmp_path: Path, written: str) -> None:
    tree = base()
    tree["models"].append({"name": "mine", "path": written})
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(InputError, match=r"m\.yaml:\d+: models\[2\]\.path: no such folder"):
        read.read(path)


def test_a_draft_is_a_path_where_there_is_one_and_a_hub_id_where_it_reads_so(tmp_path: Path) -> None:
    def draft(word: str) -> str | None:
        tree = base()
        tree["recipes"].append({"name": "fast", "weights": "f16", "draft": word})
        path = tmp_path / "m.yaml"
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        found = read.read(path).recipes[-1].draft
        assert found is not None
        assert (found.hub is None) == Path(found.model or "").is_absolute()
        return found.model

    assert draft("org/small") == "org/small"
    assert draft("org/small@v2") == "org/small@v2"
    assert draft("small.gguf") == str(tmp_path / "small.gguf")
    assert draft("/srv/org/small") == "/srv/org/small"
    (tmp_path / "org" / "small").mkdir(parents=True)
    assert draft("org/small") == str(tmp_path / "org" / "small")


def test_a_model_folder_is_found_beside_the_matrix_file(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    tree = base()
    tree["models"].append("./mine")
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert read.read(path).models[2].path == str(tmp_path / "mine")
    assert read.read_text(yaml.safe_dump(tree), "m.yaml").models[2].path == "./mine"


def refused(content: bytes, path: Path) -> tuple[str, ...]:
    path.write_bytes(content)
    try:
        read.read(path)
    except InputError as error:
        return error.mistakes
    return ()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "m.yaml"


@given(st.binary(max_size=200))
def test_no_bytes_give_a_traceback(scratch: Path, content: bytes) -> None:
    found = refused(content, scratch)
    assert found
    assert all(line.isprintable() for line in found)


@given(at=st.integers(0, len(FULL)), cut=st.integers(0, 12), put_in=st.binary(max_size=4))
def test_no_damage_to_a_good_file_gives_a_traceback(scratch: Path, at: int, cut: int, put_in: bytes) -> None:
    good = FULL.encode()
    found = refused(good[:at] + put_in + good[at + cut :], scratch)
    assert all(line.isprintable() for line in found)


WRONG = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats()
    | st.sampled_from(["", "f16", "tiny", "10m", "x" * 70]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "tp", "kv", "x"]), inner),
    max_leaves=5,
)


@settings(max_examples=200)
@given(
    value=WRONG, path=st.sampled_from([*SCALARS, *LISTS, *MAPPINGS, *WORDS, "exclude", "load.rate", "load.arrivals"])
)
def test_no_value_in_any_place_gives_a_traceback(scratch: Path, value: Any, path: str) -> None:
    found = refused(yaml.safe_dump(put_in_base(path, value)).encode(), scratch)
    assert all(line.isprintable() for line in found)
