from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fleetbench.artifact import hf, source
from fleetbench.artifact.hf import hf_name
from fleetbench.artifact.training import schedule
from fleetbench.artifact.training.export import bf16, export

SHIPPED = Path(source.__file__).parent / "tiny"


def test_a_schedule_goes_through_all_phases_in_order() -> None:
    seen = [schedule.phase(step, 1000).context_tok for step in range(1000)]
    assert sorted(set(seen)) == [128, 256, 512, 1024]
    assert seen == sorted(seen)


def test_every_phase_fills_whole_sequences() -> None:
    assert all(phase.step_tok % phase.context_tok == 0 for phase in schedule.PHASES)


def test_the_rate_rises_holds_and_falls() -> None:
    rates = [schedule.rate(step, 1000) for step in range(1000)]
    assert rates[:100] == sorted(rates[:100])
    assert set(rates[99:500]) == {1.0}
    assert rates[500:] == sorted(rates[500:], reverse=True)
    assert rates[-1] == 0.03


def test_bf16_rounds_to_nearest_and_ties_to_even() -> None:
    values = np.array([1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, 1.0 + 2**-8 + 2**-20, -2.5], np.float32)
    back = (bf16(values).astype(np.uint32) << 16).view(np.float32)
    assert back.tolist() == [1.0, 1.0, 1.015625, 1.0078125, -2.5]


def test_exporting_the_shipped_model_gives_the_shipped_model(tmp_path: Path) -> None:
    own = hf.read(SHIPPED)
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    for gguf_name in own.tensors:
        if gguf_name not in names:
            _, layer, short, _ = gguf_name.split(".")
            names[gguf_name] = hf_name(int(layer), short)
    vocab = json.loads((SHIPPED / "tokenizer.json").read_text())["model"]["vocab"]
    export(
        tmp_path,
        shape=own.shape,
        tokens=sorted(vocab, key=vocab.__getitem__),
        special={"bos": 1, "eos": 2, "pad": 0},
        tensors={names[name]: stored.load() for name, stored in own.tensors.items()},
    )
    again = hf.read(tmp_path)
    assert (again.shape, again.vocabulary) == (own.shape, own.vocabulary)
    assert all(np.array_equal(again.tensors[n].load(), own.tensors[n].load()) for n in own.tensors)
    for name in ("config.json", "tokenizer.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((SHIPPED / name).read_text())


@pytest.mark.slow
def test_training_repeats_itself_and_learns(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from fleetbench.artifact.training import train  # noqa: PLC0415 -- imports torch

    torch.set_num_threads(1)
    (first, losses), (second, _) = (train.train(seed=3, steps=12) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert sum(losses[-3:]) < sum(losses[:3])
    train.main([str(tmp_path / "made"), "--steps", "1", "--threads", "1"])
    assert source.inspect("made", tmp_path / "made").suites == ("embedded",)


@pytest.mark.slow
def test_the_network_agrees_with_the_shipped_weights() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from fleetbench.artifact import safetensors  # noqa: PLC0415 -- beside its torch twin
    from fleetbench.artifact.training import network, train  # noqa: PLC0415 -- imports torch

    stored = safetensors.index(SHIPPED / "model.safetensors")
    params = {name: torch.from_numpy(tensor.load()) for name, tensor in stored.items()}
    ids = torch.tensor([[1, 36, 29, 24, 26, 14, 27, 32, 24]])
    with torch.no_grad():
        logits = network.hidden(params, ids, train.SHAPE) @ params["lm_head.weight"].T
    assert logits[0, -2:].argmax(-1).tolist() == [24, 25]  # 57 + 8 = 65, lowest digit first
