"""MLPerf's own words: benchmarks for the models that they are defined on, accelerators as submitters name them."""

from __future__ import annotations

from fleetbench.store.foreign.record import Words

_MODELS = {
    "llama2-70b": "meta-llama/Llama-2-70b-chat-hf",
    "llama3.1-405b": "meta-llama/Llama-3.1-405B-Instruct",
    "llama3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
    "mixtral-8x7b": "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "deepseek-r1": "deepseek-ai/DeepSeek-R1",
    "gpt-oss-120b": "openai/gpt-oss-120b",
}
_KINDS = ("", "-99", "-99.9", "-interactive", "-interactive-99", "-interactive-99.9", "-edge")
"""How close to the reference's accuracy it has to come, and with which latency."""
_ACCELERATORS = {
    "NVIDIA H100-SXM-80GB": "h100",
    "NVIDIA H200-SXM-141GB": "h200",
    "NVIDIA B200-SXM-180GB": "b200",
    "AMD Instinct MI300X-NPS1-SPX-192GB-750W": "mi300x",
}
WORDS: Words = {
    "model": {f"{name}{kind}": model for name, model in _MODELS.items() for kind in _KINDS},
    "hardware": _ACCELERATORS,
    "weights": {"fp4": None},
}
