"""Through the real engine: the protocol alone, for the tiny model was taught no chat."""

from __future__ import annotations

from pathlib import Path

from fleetbench.engine import lease, start
from fleetbench.engine.llamacpp import LlamaCpp
from fleetbench.engine.runtime import NodeEngine, Wheel
from fleetbench_collectors.quality.run import run
from tests.engine.conftest import fake_spec


def test_the_embedded_engine_answers_what_fits_and_says_why_the_rest_does_not(tiny_gguf: Path, tmp_path: Path) -> None:
    """A character is a token to this model, so the haystacks burst its context; asked again, it says the same."""
    spec = fake_spec(tmp_path, model_path=tiny_gguf, context_tok=1024)
    ask = {"kind": "quality", "suite": "general", "items": 1, "seed": 1, "run_id": "r", "trial_id": "t", "attempt": 1}
    engine = NodeEngine(name="llamacpp", runtime=Wheel())
    with start.start(LlamaCpp(), engine, spec, lease.new_lease("test")) as session:
        ask |= {"base_url": session.receipt.base_url, "out": str(tmp_path), "parallel": 1}
        found, again = run(ask), run(ask)
    assert found["tables"] == again["tables"]
    answered = {row["category"] for row in found["tables"]["quality_items"].to_pylist() if row["answer"] is not None}
    assert answered == set(found["summary"]["categories"]) - {"needle"}
    assert "exceeds the available context size" in found["summary"]["first_refusal"]
