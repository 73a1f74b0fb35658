"""Trains the tiny model: `python -m fleetbench.artifact.training.train FOLDER` (needs the extra `train`).

The same seed, steps and torch build give the same weights; nothing depends on time. FOLDER then is a
Hugging Face folder that a matrix can name by its path.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from fleetbench.artifact.llama import Shape
from fleetbench.artifact.training import network, schedule
from fleetbench.artifact.training.export import export
from fleetbench.artifact.training.muon import Muon
from fleetbench.artifact.training.network import Params
from fleetbench_collectors.quality import tasks

SHAPE = Shape(
    width=256,
    layers=3,
    heads=4,
    kv_heads=4,
    head_dim=64,
    ffn=512,
    vocab=tasks.VOCAB_SIZE,
    context=1024,
    rope_theta=10_000.0,
    norm_eps=1e-5,
)
STEPS = 6000
_PEAK_RATE, _PEAK_MATRIX_RATE = 2e-3, 0.02
_SPECIAL = {"bos": tasks.BOS, "eos": tasks.NEWLINE, "pad": tasks.PAD}
_TOLD_EVERY = 100
_LOG = logging.getLogger(__name__)


def train(*, seed: int, steps: int, shape: Shape = SHAPE) -> tuple[Params, list[float]]:
    """Train from scratch.

    Returns:
        The parameters by Hugging Face name, and each step's mean cross entropy in nats a supervised token.
    """
    params = network.initial(shape, seed)
    matrices = [p for name, p in params.items() if p.dim() > 1 and name.startswith("model.layers.")]
    hidden = {id(p) for p in matrices}
    muon = Muon(matrices)
    adam = torch.optim.AdamW(
        [p for p in params.values() if id(p) not in hidden], lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0
    )
    losses = []
    for step in range(steps):
        rate = schedule.rate(step, steps)
        for group in adam.param_groups:
            group["lr"] = _PEAK_RATE * rate
        loss = _loss(params, shape, *batch(seed, step, steps))
        adam.zero_grad(set_to_none=True)
        loss.backward()
        muon.step(_PEAK_MATRIX_RATE * rate)
        adam.step()
        losses.append(float(loss.detach()))
        if (step + 1) % _TOLD_EVERY == 0:
            recent = sum(losses[-_TOLD_EVERY:]) / _TOLD_EVERY
            _LOG.info("step %d of %d: loss %.4f", step + 1, steps, recent)
    return params, losses


def batch(seed: int, step: int, steps: int) -> tuple[Tensor, Tensor]:
    """Token ids and the mask of supervised targets of a step, each [sequences, context + 1]."""
    now = schedule.phase(step, steps)
    draws = tasks.stream(f"{seed} {step}")
    made = [tasks.train_seq(draws, now.context_tok, now.needle_share) for _ in range(now.sequences)]
    return torch.tensor([ids for ids, _ in made]), torch.tensor([mask for _, mask in made], dtype=torch.bool)


def _loss(params: Params, shape: Shape, ids: Tensor, mask: Tensor) -> Tensor:
    wanted = mask[:, 1:]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = network.hidden(params, ids[:, :-1], shape)
        logits = functional.linear(states[wanted], params["lm_head.weight"])
    return functional.cross_entropy(logits.float(), ids[:, 1:][wanted])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the tiny quality model on the synthetic tasks.")
    parser.add_argument("folder", type=Path, help="where the Hugging Face folder is written")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch; part of what makes a run repeatable")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(asked.threads)
    params, _ = train(seed=asked.seed, steps=asked.steps)
    export(
        asked.folder,
        shape=SHAPE,
        tokens=tasks.VOCAB,
        special=_SPECIAL,
        tensors={name: values.detach().float().numpy() for name, values in params.items()},
    )


if __name__ == "__main__":
    main()
