"""Foreign files in the warehouse: one run each, whole or not at all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleetbench.store.commit import Warehouse
from fleetbench.store.compact import compact
from fleetbench.store.connection import connect
from fleetbench.store.foreign.aiconfigurator import AiConfigurator
from fleetbench.store.foreign.aiperf import AiPerf
from fleetbench.store.foreign.inferencex import InferenceX
from fleetbench.store.foreign.landing import import_file
from fleetbench.store.foreign.llama_bench import LlamaBench
from fleetbench.store.foreign.record import ForeignError, Record, Words
from fleetbench.store.foreign.vllm import Vllm
from tests.store.foreign.files import DATA, changed, document, rows, warehouse, written

SILICON = DATA / "aiconfigurator/silicon.csv"
POWER = DATA / "inferencex/agg-power.json"
DETAILED = DATA / "vllm/405b-detailed.json"


def test_a_file_is_a_run_that_says_where_it_is_from(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    landed = import_file(SILICON, AiConfigurator(), made, source="https://example.org/silicon.csv")
    (run,) = rows(made, "runs")
    assert (run["run_id"], run["run"], run["matrix"]) == (landed.run_id, "silicon", "import/aiconfigurator")
    assert (run["origin"], run["source"]) == ("aiconfigurator", "https://example.org/silicon.csv")
    assert run["licence"] == "Apache-2.0 (ai-dynamo/aiconfigurator)"
    assert len(run["source_sha256"]) == 64
    assert run["trials"] == len(rows(made, "trials")) == 11


def test_a_licence_that_nobody_states_is_not_made_up(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    import_file(DETAILED, Vllm(), made)
    import_file(POWER, InferenceX(), made, licence="CC-BY-4.0")
    assert {run["origin"]: run["licence"] for run in rows(made, "runs")} == {"vllm": None, "inferencex": "CC-BY-4.0"}


def test_names_that_the_catalog_lacks_are_counted_and_stay_in_the_run(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    landed = import_file(SILICON, AiConfigurator(), made)
    assert landed.unmapped == {("hardware", "gb300"): 2, ("model", "Qwen/Qwen3.5-397B-A17B"): 1}
    (run,) = rows(made, "runs")
    assert run["unmapped"] == ["hardware: gb300", "model: Qwen/Qwen3.5-397B-A17B"]
    assert {trial["hardware"] for trial in rows(made, "trials")} == {"b200", "b300", "gb200", "gb300"}


def test_the_same_file_twice_changes_nothing(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    first = import_file(SILICON, AiConfigurator(), made)
    before = {path: path.read_bytes() for path in made.root.rglob("*.parquet")}
    again = import_file(SILICON, AiConfigurator(), made)
    assert (again.already, again.records, again.run_id) == (True, first.records, first.run_id)
    assert {path: path.read_bytes() for path in made.root.rglob("*.parquet")} == before


def test_the_same_content_packed_changes_nothing(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(SILICON.read_bytes()))
    first = import_file(SILICON, AiConfigurator(), made)
    again = import_file(packed, AiConfigurator(), made)
    assert (again.already, again.run_id) == (True, first.run_id)


def test_the_same_file_after_a_compaction_changes_nothing(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    import_file(DETAILED, Vllm(), made)
    compact(made.root, grace_s=0)
    again = import_file(DETAILED, Vllm(), made)
    assert (again.already, again.records) == (True, 1)
    with connect(made.root) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*) FROM requests").fetchall() == [(7,)]


def test_what_an_import_left_that_was_killed_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = warehouse(tmp_path)

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "commit_trials", killed)
        with pytest.raises(KeyboardInterrupt):
            import_file(SILICON, AiConfigurator(), made)
    assert not import_file(SILICON, AiConfigurator(), made).already
    with connect(made.root) as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchall() == [(11,)]
        assert connection.execute("SELECT count(*) FROM runs").fetchall() == [(1,)]


def test_the_same_content_under_another_name_is_the_same_run(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    import_file(POWER, InferenceX(), made)
    copy = tmp_path / "copy.json"
    copy.write_bytes(POWER.read_bytes())
    assert import_file(copy, InferenceX(), made).already
    assert len(rows(made, "trials")) == 1


def test_equal_conditions_are_one_cell_in_every_file_and_their_records_repeats(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    import_file(SILICON, AiConfigurator(), made)
    repeated = [trial for trial in rows(made, "trials") if trial["repeat"] == 1]
    assert len(repeated) == 1
    other = changed(tmp_path, "inferencex/agg-power.json", {"mean_ttft": 0.2, "date": "2026-01-02"})
    cells = set()
    for path in (POWER, other):
        run_id = import_file(path, InferenceX(), made).run_id
        cells |= {trial["cell_id"] for trial in rows(made, "trials") if trial["run_id"] == run_id}
    assert len(cells) == 1


def test_files_that_do_not_say_their_hardware_have_no_cell_in_common_unless_the_user_does(tmp_path: Path) -> None:
    first, second = DATA / "vllm/glm47-conc16.json", changed(tmp_path, "vllm/glm47-conc16.json", {"duration": 600.0})

    def cells(name: str, given: dict[str, str | int]) -> int:
        made = warehouse(tmp_path / name)
        for path in (first, second):
            import_file(path, Vllm(), made, given=given)
        return len({trial["cell_id"] for trial in rows(made, "trials")})

    assert cells("unsaid", {}) == 2
    assert cells("said", {"hardware": "gaudi3"}) == 1


def test_another_topology_is_another_cell(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    text = [document("inferencex/agg-power.json"), document("inferencex/agg-power.json") | {"ep": 2}]
    import_file(written(tmp_path, text), InferenceX(), made)
    assert len({trial["cell_id"] for trial in rows(made, "trials")}) == 2


def test_all_else_that_a_file_says_is_kept_by_its_name(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    import_file(POWER, InferenceX(), made)
    (trial,) = rows(made, "trials")
    said = {row["name"]: row["value"] for row in rows(made, "host") if row["launch_id"] == trial["launch_id"]}
    assert said["inferencex.image"] == "synthetic-local-test-fixture"
    assert said["inferencex.dp_attention"] == "false"
    assert said["inferencex.mean_intvty"] == "50.0"


def test_requests_land_beside_our_figures_and_theirs(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    import_file(DETAILED, Vllm(), made)
    (trial,) = rows(made, "trials")
    requests = rows(made, "requests")
    assert len(requests) == 7
    assert {row["trial_id"] for row in requests} == {trial["trial_id"]}
    assert trial["ttft_p50_ms"] == pytest.approx((440.009863988962 + 570.1384320273064) / 2, rel=1e-6)
    assert trial["ttft_sketch"] is not None
    said = {row["name"]: row["value"] for row in rows(made, "host")}
    assert said["vllm.reported.ttft_p50_ms"] == "15444.313973013777"
    assert trial["ttft_p99_ms"] == 43800.48423640372  # six samples tell none, the file's does


def test_what_the_user_knows_fills_what_the_file_does_not_say(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    landed = import_file(DETAILED, Vllm(), made, given={"hardware": "AMD Instinct MI300X", "gpus": 8})
    (trial,) = rows(made, "trials")
    assert (trial["hardware"], trial["gpus"]) == ("mi300x", 8)
    assert landed.not_said == {}
    said = {row["name"]: row["value"] for row in rows(made, "host")}
    assert said["given.hardware"] == "AMD Instinct MI300X"


def test_a_file_that_names_no_model_takes_the_user_s(tmp_path: Path) -> None:
    alone = tmp_path / "export.csv"  # away from its JSON, which names it
    alone.write_bytes((DATA / "aiperf/profile_export_aiperf.csv").read_bytes())
    for name, given in (("unsaid", {}), ("said", {"model": "meta-llama/Llama-3.1-8B-Instruct"})):
        made = warehouse(tmp_path / name)
        import_file(alone, AiPerf(), made, given=given)
        assert rows(made, "trials")[0]["model"] == ("llama-3.1-8b" if given else "unknown")


def test_what_the_file_says_is_not_overruled(tmp_path: Path) -> None:
    with pytest.raises(ForeignError, match="record 1, engine: the file says vllm, which --given engine=sglang cannot"):
        import_file(DETAILED, Vllm(), warehouse(tmp_path), given={"engine": "sglang"})


def test_energy_makes_power_available(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    import_file(POWER, InferenceX(), made)
    import_file(DETAILED, Vllm(), made)
    assert {trial["power_status"] for trial in rows(made, "trials")} == {"available", "not measured"}


def test_records_that_are_not_to_be_compared_are_counted(tmp_path: Path) -> None:
    landed = import_file(DETAILED, Vllm(), warehouse(tmp_path))
    assert landed.not_valid == {"1 of 7 requests brought no token, where the file says that 0 failed": 1}


def test_of_a_file_with_a_broken_record_nothing_lands(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    path = written(tmp_path, [document("inferencex/agg-power.json"), {"model": "x", "mean_ttft": -1}])
    with pytest.raises(ForeignError, match="record 2: mean_ttft: -1 is no measurement"):
        import_file(path, InferenceX(), made)
    assert list(made.root.rglob("*.parquet")) == []


def test_an_empty_list_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(ForeignError, match="it holds no result of inferencex"):
        import_file(written(tmp_path, []), InferenceX(), warehouse(tmp_path))


def test_a_packed_file_is_read_and_its_run_named_without_endings(tmp_path: Path) -> None:
    path = tmp_path / "night.jsonl.gz"
    path.write_bytes(gzip.compress((DATA / "llama-bench/sample.jsonl").read_bytes()))
    assert import_file(path, LlamaBench(), warehouse(tmp_path)).run == "night"


class Third:
    """A reader of someone else's, which gives a record by itself."""

    name = "third"
    about = "one number"
    licence = None
    words: Words
    given: Record

    def __init__(self, given: Record, words: Words) -> None:
        self.given, self.words = given, words

    def read(self, path: Path) -> Iterator[Record]:
        yield replace(self.given, figures={"output_tok_s": json.loads(path.read_text(encoding="utf-8"))})


def test_a_reader_of_someone_else_needs_a_record_alone(tmp_path: Path) -> None:
    made = warehouse(tmp_path)
    bare = Record(where="it", model="m", hardware="big", engine="vllm")
    import_file(written(tmp_path, 5.5), Third(bare, {"hardware": {"big": "b200"}}), made)
    (trial,) = rows(made, "trials")
    assert (trial["hardware"], trial["output_tok_s"], trial["launch_id"]) == ("b200", 5.5, None)


def test_a_figure_that_is_no_measurement_names_its_record(tmp_path: Path) -> None:
    bare = Record(where="it", model="m", hardware=None, engine=None)
    with pytest.raises(ForeignError, match=r"it: output_tok_s comes out as -1, which is no measurement"):
        import_file(written(tmp_path, -1), Third(bare, {}), warehouse(tmp_path))
