"""What tokens cost: money, energy, time against the roofline, starts and checkpoints."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from fleetbench.catalog.lookup import gpu_info
from tests.samples import START, Row, artifact_row, launch_row, run_row
from tests.warehouse.work import Ask, asking, built, cell


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    trials = [
        *cell("fp8", 800.0, 1000.0, 900.0, gpus=2, tp=2, total_tok_s=9000.0),
        *cell("fp8", 900.0, hardware="H100-SXM", total_tok_s=None),
        *cell("fp8", 10.0, hardware="local", gpus=0),
        *cell("fp8", 10.0, hardware="b200", gpus=None),
        *cell("fp8", 10.0, hardware="sim-h100"),
    ]
    return asking(built(tmp_path_factory.mktemp("costs"), [run_row()], trials))


def test_a_million_tokens_cost_all_devices_by_the_catalogs_dated_price(costs: Ask) -> None:
    h100 = gpu_info("h100")
    assert h100 is not None
    price = h100.price_usd_h
    assert price is not None
    (row,) = costs("FROM cost_per_mtok WHERE hardware = 'h100'")
    hour = 2 * price.value
    assert row["usd_per_mtok"] == pytest.approx(hour / (900 * 3600) * 1e6)
    assert row["usd_per_mtok_low"] == pytest.approx(hour / (1000 * 3600) * 1e6)
    assert row["usd_per_mtok_high"] == pytest.approx(hour / (800 * 3600) * 1e6)
    assert row["usd_per_mtok_total"] == pytest.approx(hour / (9000 * 3600) * 1e6)
    assert (row["price_source"], row["price_date"]) == (price.source, dt.date.fromisoformat(price.date))
    assert (row["trials"], row["no_cost"]) == (3, None)


def test_a_price_is_found_by_an_alias_and_one_trial_has_no_range(costs: Ask) -> None:
    (row,) = costs("FROM cost_per_mtok WHERE hardware = 'H100-SXM'")
    assert row["usd_per_mtok"] is not None
    assert (row["usd_per_mtok_low"], row["usd_per_mtok_total"]) == (None, None)


def test_a_row_without_a_price_or_a_number_of_devices_stays_and_says_why(costs: Ask) -> None:
    rows = costs("FROM cost_per_mtok WHERE usd_per_mtok IS NULL")
    assert {row["hardware"]: row["no_cost"] for row in rows} == {
        "local": "no price of local is known",
        "sim-h100": "no price of sim-h100 is known",
        "b200": "the number of GPUs is unknown",
    }


def powered(joules: float, tok_s: float, idle_w: float | None, **axes: Any) -> list[Row]:
    """A trial of 10 s."""
    energy = {"energy_j": joules, "energy_j_per_tok": joules / (10 * tok_s), "power_mean_w": joules / 10}
    known = {"window_s": 10.0, "power_status": "available", "idle_power_w": idle_w, "total_tok_s": 4 * tok_s}
    return cell("fp8", tok_s, **{**energy, **known, **axes})


@pytest.fixture(scope="module")
def energies(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    without = {"energy_j": None, "energy_j_per_tok": None, "power_mean_w": None, "power_status": "no_permission"}
    runs = [powered(7000.0, 100.0, 100.0), powered(6000.0, 100.0, 120.0), powered(0.0, 100.0, 100.0, **without)]
    trials = [{**row, "repeat": n, "trial_id": f"t{n}"} for n, rows in enumerate(runs) for row in rows]
    trials += powered(7000.0, 100.0, None, batch=8)
    trials += powered(0.0, 100.0, None, batch=16, **without)
    return asking(built(tmp_path_factory.mktemp("energies"), [run_row()], trials))


def test_energy_is_gross_and_less_what_waiting_takes(energies: Ask) -> None:
    (row,) = energies("FROM energy_per_token WHERE batch = 1")
    assert row["energy_j_per_tok"] == pytest.approx((7.0 + 6.0) / 2)
    assert row["net_j_per_tok"] == pytest.approx(((7000 - 1000) / 1000 + (6000 - 1200) / 1000) / 2)
    assert row["energy_j_per_total_tok"] == pytest.approx((7.0 + 6.0) / 2 / 4)
    assert row["energy_spread_ratio"] == pytest.approx(1 / 6.5)
    assert (row["trials"], row["energy_n"], row["net_n"], row["n_left_out"]) == (3, 2, 2, 1)
    assert row["left_out"] == "no_permission"


def test_energy_without_the_idle_power_has_no_net_and_says_so(energies: Ask) -> None:
    rows = energies("FROM energy_per_token WHERE batch > 1 ORDER BY batch")
    assert [(row["energy_j_per_tok"], row["net_j_per_tok"], row["no_net"]) for row in rows] == [
        (7.0, None, "the idle power was not read"),
        (None, None, "no energy: power no permission"),
    ]


@pytest.fixture(scope="module")
def phases(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    reference = {"reference": True, "weights": "bf16"}
    one = {"prefill_tok_s": 1000.0, "decode_tok_s": 50.0, "e2e_n": 5, "ttft_n": 5}
    trials = [
        *cell("bf16", 100.0, **reference, **one, e2e_mean_ms=200.0),
        *cell("fp8", 100.0, **{**one, "prefill_tok_s": 1500.0, "decode_tok_s": 40.0}, e2e_mean_ms=500.0),
        *cell("fp8", 100.0, batch=8, **one, ttft_floor_ms=40.0, itl_floor_ms=2.0),
        *cell("fp8", 100.0, batch=16, **one, ttft_floor_ms=5.0, itl_floor_ms=9.0),
    ]
    return asking(built(tmp_path_factory.mktemp("phases"), [run_row(reference="bf16")], trials))


def test_prefill_and_decoding_are_told_apart_each_against_the_reference(phases: Ask) -> None:
    (row,) = phases("FROM phase WHERE recipe = 'fp8' AND batch = 1")
    assert (row["prefill_speedup_ratio"], row["decode_speedup_ratio"]) == (1.5, 0.8)
    assert (row["prefill_time_ratio"], row["reference_trials"], row["no_ratio"]) == (0.1, 1, None)
    (row,) = phases("FROM phase WHERE batch = 8")
    assert (row["prefill_speedup_ratio"], row["reference_trials"]) == (None, None)
    assert row["no_ratio"] == "no cell of the reference agrees in model, version, place and load"


def test_the_roofline_says_which_phase_is_nearer_to_its_limit(phases: Ask) -> None:
    rows = phases("FROM roofline WHERE recipe = 'fp8' ORDER BY batch")
    assert [(row["ttft_roofline_ratio"], row["itl_roofline_ratio"], row["nearer"]) for row in rows] == [
        (None, None, None),
        (40 / 50, 2 / 10, "prefill"),
        (5 / 50, 9 / 10, "decode"),
    ]
    assert [row["no_floor"] for row in rows] == ["no figures of h100 for this work", None, None]


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    nvme: Row = {"storage": "nvme", "artifact_bytes": 400}
    launches = [
        launch_row("q8_0", 0, **nvme, ready_s=9.0, first_token_s=10.0, cold_read_s=4.0, staged_s=1.0),
        launch_row("q8_0", 1, **nvme, ready_s=11.0, first_token_s=14.0, cold_read_s=6.0, artifact_s=3.0),
        launch_row("q8_0", 2, **nvme, ready_s=10.0, first_token_s=11.0, cold_read_s=None),
        launch_row("q8_0", 3, **nvme, outcome="launch_failed", cause="port"),
        launch_row("q8_0", 4, **nvme, outcome="oom"),
        launch_row("q8_0", 5, **{**nvme, "storage": "network"}, first_token_s=99.0),
        launch_row("f16", 0, artifact_bytes=2000),
    ]
    artifacts = [
        artifact_row("q8_0", build_s=10.0, bytes=500, peak_rss_bytes=7),
        artifact_row("q8_0", "there", build_s=20.0, bytes=500),
        artifact_row("q4_k", build_s=1.0, run_id="planned"),
    ]
    root = built(tmp_path_factory.mktemp("starts"), [run_row()], [], launches=launches, artifacts=artifacts)
    return asking(root)


def test_cold_starts_are_medians_by_storage_with_n_spread_and_what_failed(starts: Ask) -> None:
    (row,) = starts("FROM cold_start WHERE storage = 'nvme'")
    assert (row["n"], row["first_token_s"], row["ready_s"], row["cold_read_s"]) == (3, 11.0, 10.0, 5.0)
    assert (row["first_token_s_min"], row["first_token_s_max"]) == (10.0, 14.0)
    assert row["first_token_s_spread_ratio"] == pytest.approx(4 / 11)
    assert (row["n_left_out"], row["left_out"]) == (2, "oom (1); port (1)")
    (row,) = starts("FROM cold_start WHERE storage = 'network'")
    assert (row["n"], row["first_token_s"], row["first_token_s_spread_ratio"], row["left_out"]) == (1, 99.0, None, None)


def test_a_checkpoint_costs_what_its_makings_took_and_says_how_often_it_was_in_the_cache(starts: Ask) -> None:
    (row,) = starts("FROM artifact_cost WHERE run_id = 'run1'")
    assert (row["recipe"], row["hardware"], row["n"], row["build_s"]) == ("q8_0", "local", 2, 15.0)
    assert (row["build_s_min"], row["build_s_max"]) == (10.0, 20.0)
    assert row["build_s_spread_ratio"] == pytest.approx(10 / 15)
    assert (row["bytes"], row["peak_rss_bytes"], row["size_ratio"]) == (500, 7, 500 / 2000)
    assert (row["n_left_out"], row["submitted_at"]) == (5, START.replace(tzinfo=None))
    (row,) = starts("FROM artifact_cost WHERE run_id = 'planned'")
    assert (row["recipe"], row["hardware"], row["submitted_at"], row["size_ratio"]) == (None, None, None, None)


def test_an_empty_warehouse_has_prices_all_the_same(tmp_path: Path) -> None:
    (row,) = asking(built(tmp_path, [], []))("SELECT count(usd_per_hour) AS known, count(*) AS n FROM prices")
    assert row["n"] > row["known"] > 0
