"""The answer of `fit` in words: what is said of it must agree with its numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleetbench.fleet.asking import Asked, ask
from fleetbench.plan.fit import Fit
from fleetbench.plan.fit import fit as work_out
from fleetbench.report import fit as report
from fleetbench.report.result import Panel


def answer(**changes: Any) -> tuple[Asked, Fit, dict[str, int]]:
    words: dict[str, Any] = {
        "model": "llama-3.1-8b", "gpu": "h100", "recipe": "fp8", "kv": None, "engine": "vllm", "batch": 1,
        "context_tok": 2048, "tp": 1, "pp": 1, **changes,
    }  # fmt: skip
    asked = ask(**words)
    load = {"batch": words["batch"], "context_tok": words["context_tok"]}
    return asked, work_out(asked.shape, asked.cell.recipe, asked.gpu, asked.cell.parallel, **load), load


def panels(**changes: Any) -> list[Panel]:
    asked, found, load = answer(**changes)
    return report.panels(asked.cell, asked.gpu, asked.ruled, found, **load)


def notes(**changes: Any) -> str:
    return " ".join(note for panel in panels(**changes) for note in panel.notes)


def test_the_title_says_all_that_was_asked() -> None:
    title = panels(batch=1000, context_tok=4096, tp=2, pp=2)[0].title
    assert title == "llama-3.1-8b as fp8 (W8A8) on h100, tp 2 pp 2: 1,000 x 4,096 tokens"


def test_the_sum_ends_with_what_the_gpu_has() -> None:
    rows = panels()[0].result.rows
    parts, (total, has, fills) = rows[:-3], rows[-3:]
    assert total[:2] == ("sum", sum(row[1] for row in parts if isinstance(row[1], int)))
    assert (has[0], fills[0]) == ("h100 has", "an engine fills")
    assert isinstance(has[1], int)
    assert isinstance(fills[1], int)
    assert fills[1] < has[1]


@pytest.mark.parametrize(
    ("changes", "said", "fits"),
    [
        ({}, "It fits.", True),
        ({"model": "llama-3.1-405b"}, "It does not fit.", False),
        ({"tp": 3}, "It does not fit: 32 attention heads of llama-3.1-8b cannot be shared by tp 3.", False),
        ({"gpu": "local", "engine": "llamacpp", "recipe": "q4_k"}, "Whether it fits nobody can say", None),
    ],
)
def test_the_verdict_in_words_is_the_one_in_the_document(changes: dict[str, Any], said: str, *, fits: bool) -> None:
    assert said in notes(**changes)
    asked, found, load = answer(**changes)
    assert report.document(asked.cell, asked.gpu, asked.ruled, found, **load)["fits"] is fits


def test_what_is_the_least_and_the_most_is_said_with_its_numbers() -> None:
    asked, found, _ = answer()
    said = notes()
    assert f"tp {found.smallest_tp} is the least that fits" in said
    assert f"at most {found.largest_batch:,} sequences of 2,048 tokens, or 1 of {found.largest_context:,}." in said
    assert found.largest_context == asked.shape.max_context_tok
    assert "no degree of a node fits" in notes(model="llama-3.1-405b", gpu="l4")


def test_where_nothing_fits_no_batch_of_none_is_offered() -> None:
    said = notes(model="llama-3.1-405b", gpu="l4")
    assert "not even one sequence of 2,048 tokens fits at the asked degree" in said
    assert "at most" not in said
    many = notes(model="llama-3.1-70b", batch=40_000)
    assert "at the asked degree at most" in many
    assert "and not 40,000 of any length." in many
    assert " of 0" not in many


def test_memory_of_which_nobody_knows_the_usable_part_fits_nothing_for_sure() -> None:
    asked, found, load = answer(gpu="apple-m3-max", engine="mlx", recipe="bf16")
    bare = replace(asked.gpu, usable_ratio=None)
    unknown = work_out(asked.shape, asked.cell.recipe, bare, asked.cell.parallel, **load)
    said = report.document(asked.cell, bare, asked.ruled, unknown, **load)
    assert (said["fits"], said["usable_bytes"], said["smallest_tp"], said["largest_batch"]) == (None, None, None, None)
    told = " ".join(note for one in report.panels(asked.cell, bare, asked.ruled, unknown, **load) for note in one.notes)
    assert "which part of its memory apple-m3-max may use is not known" in told
    assert report.fits(found, asked.ruled) is True


def test_floors_say_of_how_many_tokens_they_are() -> None:
    rows = panels(batch=3, context_tok=4096)[2].result.rows
    assert [row[0] for row in rows] == ["TTFT, a prompt of 4,096 tokens", "ITL, 3 sequences of 4,096 tokens"]


def test_what_a_sum_leaves_out_is_said_under_it() -> None:
    asked, found, load = answer(model="gemma-3-27b")
    assert "Not counted: vision tower." in notes(model="gemma-3-27b")
    assert report.document(asked.cell, asked.gpu, asked.ruled, found, **load)["uncounted"] == ["vision_config"]
    shape = replace(asked.shape, guessed=True, uncounted=())
    cell = replace(asked.cell, model=replace(asked.cell.model, shape=shape))
    said = report.panels(cell, asked.gpu, asked.ruled, found, **load)[0].notes
    assert "Its architecture is not known here: read as Llama's." in said
    assert report.document(cell, asked.gpu, asked.ruled, found, **load)["guessed"] is True
    assert "Not counted" not in notes() + " ".join(said)


def test_what_the_engine_does_is_said_with_its_version_and_kernel() -> None:
    asked, _, _ = answer()
    assert f"vllm {asked.cell.engine.version} there: native by kernel" in notes()
    assert "emulated" in notes(recipe="nvfp4")
    assert "tensorrt-llm" in notes(recipe="nvfp4", engine="tensorrt-llm")
    assert "there: hardware cannot: NVFP4" in notes(recipe="nvfp4", engine="tensorrt-llm")


def test_an_unknown_floor_is_missing_and_no_zero() -> None:
    asked, found, load = answer()
    bare = replace(found, ttft=None, itl=None)
    rows = report.panels(asked.cell, asked.gpu, asked.ruled, bare, **load)[2].result.rows
    assert [row[1:] for row in rows] == [(None, None, None, None)] * 2
    said = report.document(asked.cell, asked.gpu, asked.ruled, bare, **load)
    assert (said["ttft_floor_ms"], said["itl_floor_ms"]) == (None, None)


def test_degrees_are_rows_in_gigabytes() -> None:
    _, found, _ = answer()
    result = report.degrees(found)
    assert result.columns == ("tp", "weights", "kv", "activations", "overhead", "total", "fits")
    for row, degree in zip(result.rows, found.degrees, strict=True):
        assert row[5] == degree.needed.total_bytes / 1e9
        assert row[6] == ("yes" if degree.fits else "no")
