"""The model as vLLM built it, read from the structure that it logs (VLLM_LOG_MODEL_INSPECTION=1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

STRUCTURE = re.compile(r"^(?P<who>(?:\([^)]*\) )?)INFO .*?\] vLLM model structure:$", re.MULTILINE)
MODULE = re.compile(r"(?P<indent> *)\((?P<name>[^)]*)\): (?:(?P<times>\d+) x )?(?P<kind>\w+)\((?P<said>.*)")
SAID = re.compile(r"\b(quant|backend)=(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """The model as it was built: layers that multiply, those of them that are quantized, and by which schemes."""

    layers: int
    quantized: int
    schemes: tuple[str, ...]
    attention: tuple[str, ...]


def structure(log: str) -> Structure | None:
    """The model of the first worker that tells it; None where none does."""
    begun = STRUCTURE.search(log)
    if begun is None:
        return None
    layers = quantized = 0
    schemes: dict[str, None] = {}
    attention: dict[str, None] = {}
    for kind, times, said in _modules(log[begun.end() :], begun["who"]):
        told = dict(SAID.findall(said))
        if "backend" in told:
            attention[told["backend"]] = None
        if kind.endswith(("Linear", "FusedMoE")):
            layers += times
            if "quant" in told:
                quantized += times
                schemes[told["quant"]] = None
    return Structure(layers=layers, quantized=quantized, schemes=tuple(schemes), attention=tuple(attention))


def _modules(text: str, who: str) -> Iterator[tuple[str, int, str]]:
    """(class, how often, what it says) of every module of the one who began; repeated blocks are told once."""
    outer: list[tuple[int, int]] = []
    for line in text.splitlines()[1:]:
        if not line.startswith(f"{who}INFO "):
            if line.startswith("("):
                continue  # another worker speaks in between
            return
        module = MODULE.match(line.partition("] ")[2])
        if module is None:
            if line.partition("] ")[2].strip() in ("", ")") or line.endswith("("):
                continue
            return
        indent, times = len(module["indent"]), int(module["times"] or 1)
        while outer and outer[-1][0] >= indent:
            outer.pop()
        times *= outer[-1][1] if outer else 1
        outer.append((indent, times))
        yield module["kind"], times, module["said"]
