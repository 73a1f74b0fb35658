"""Muon: momentum whose matrices are made nearly orthogonal before each step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

_STEPS = 4
_A, _B, _C = 3.4445, -4.7750, 2.0315
"""Coefficients of the quintic iteration. Source: Keller Jordan, "Muon" (2024)."""


class Muon:
    """Optimizer of a network's hidden matrices; equal shapes are worked on together."""

    def __init__(self, matrices: Iterable[Tensor], *, momentum: float = 0.95, decay: float = 0.01) -> None:
        self._momentum, self._decay = momentum, decay
        self._groups: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for matrix in matrices:
            size = (min(matrix.shape), max(matrix.shape))
            self._groups.setdefault(size, []).append((matrix, torch.zeros_like(matrix)))

    def step(self, rate: float) -> None:
        """Move every matrix against its gradient, and drop the gradient."""
        with torch.no_grad():
            for group in self._groups.values():
                moves = _orthogonal(torch.stack([self._wide_move(*pair) for pair in group]))
                for (matrix, _), move in zip(group, moves, strict=True):
                    rows, columns = matrix.shape
                    turned = move if rows <= columns else move.T
                    matrix.mul_(1 - rate * self._decay)
                    matrix.add_(turned, alpha=-rate * math.sqrt(max(1.0, rows / columns)))
                    matrix.grad = None

    def _wide_move(self, matrix: Tensor, past: Tensor) -> Tensor:
        """Nesterov's mean of the gradients, lying on its long side."""
        past.lerp_(matrix.grad, 1 - self._momentum)
        move = matrix.grad.lerp(past, self._momentum)
        return move if move.shape[0] <= move.shape[1] else move.T


def _orthogonal(matrices: Tensor) -> Tensor:
    """Newton-Schulz: [n, rows, columns] with all singular values drawn towards 1."""
    found = matrices.bfloat16()
    found = found / (found.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        square = found @ found.transpose(1, 2)
        found = _A * found + (_B * square + _C * (square @ square)) @ found
    return found.float()
