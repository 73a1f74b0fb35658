"""Arrow schemas of all that is measured; every field says its unit and what it is.

A row is found by (run_id, trial_id, attempt). Times on the monotonic clock are ns since the trial's
clock pair (`clock_wall_ns`, `clock_mono_ns`); a missing number is NULL, never 0.
"""

from __future__ import annotations

import pyarrow as pa


def field(name: str, kind: pa.DataType, doc: str, *, unit: str = "", required: bool = False) -> pa.Field:
    """A column with its unit and meaning in the metadata, which every Parquet file carries along."""
    return pa.field(name, kind, nullable=not required, metadata={"doc": doc, "unit": unit})


TRIAL_KEY = (
    field("run_id", pa.string(), "run of a matrix", required=True),
    field("trial_id", pa.string(), "one measured try of a cell", required=True),
    field("attempt", pa.int32(), "0 for the first try", unit="count", required=True),
)

SKETCH = pa.struct(
    [
        pa.field("gamma", pa.float64()),
        pa.field("zero", pa.int64()),
        pa.field("bins", pa.list_(pa.int32())),
        pa.field("counts", pa.list_(pa.int64())),
    ]
)
"""A DDSketch: bin i holds values in (gamma^(i-1), gamma^i]; merge by adding counts of equal bins."""

REQUESTS = pa.schema(
    [
        *TRIAL_KEY,
        field("request", pa.int32(), "position in the trial's order of starts", unit="index", required=True),
        field("phase", pa.string(), "warmup or measure", required=True),
        field(
            "outcome",
            pa.string(),
            "ok, http_error, transport_error, timeout, protocol_error or cancelled",
            required=True,
        ),
        field("error", pa.string(), "first 500 characters of what went wrong"),
        field("intended_ns", pa.int64(), "scheduled start; the actual one in a closed loop", unit="ns"),
        field("start_ns", pa.int64(), "request written to the socket", unit="ns", required=True),
        field("first_byte_ns", pa.int64(), "first byte of the response body", unit="ns"),
        field("first_token_ns", pa.int64(), "first chunk that carries a token", unit="ns"),
        field("last_token_ns", pa.int64(), "last chunk that carries a token", unit="ns"),
        field("end_ns", pa.int64(), "response complete", unit="ns"),
        field(
            "asked_prompt_tok", pa.int32(), "prompt length sent; 0 where it is a file's own", unit="tok", required=True
        ),
        field("asked_output_tok", pa.int32(), "output length asked for", unit="tok", required=True),
        field("prompt_tok", pa.int32(), "prompt length by the server's usage", unit="tok"),
        field("output_tok", pa.int32(), "output length by the server's usage", unit="tok"),
        field("cached_tok", pa.int32(), "prompt tokens that the server took from a cache", unit="tok"),
        field("chunks", pa.int32(), "chunks that carried a token", unit="count"),
        field(
            "gaps_us",
            pa.list_(pa.uint32()),
            "gaps between successive arrivals of tokens: chunks that one read brought are one",
            unit="us",
        ),
        field(
            "chunk_tok",
            pa.list_(pa.int32()),
            "tokens of each arrival; NULL where the server does not say and every one counts alike",
            unit="tok",
        ),
        field("stamp", pa.string(), "where stamps come from: user or kernel", required=True),
    ]
)

ENGINE_METRICS = pa.schema(
    [
        *TRIAL_KEY,
        field("at_ns", pa.int64(), "when it was read, monotonic", unit="ns", required=True),
        field("phase", pa.string(), "before or after the trial", required=True),
        field("name", pa.string(), "canonical name, or the engine's own where none is mapped", required=True),
        field("value", pa.float64(), "as the engine reports it", unit="the engine's", required=True),
    ]
)

POWER = pa.schema(
    [
        *TRIAL_KEY,
        field("source", pa.string(), "nvml, amd or rapl", required=True),
        field("status", pa.string(), "available, unavailable, no_permission or unsupported", required=True),
        field("detail", pa.string(), "why it is not available, and the remedy"),
        field("device", pa.string(), "uuid or domain; NULL where the source is not available"),
        field("at_ns", pa.int64(), "monotonic", unit="ns"),
        field("power_w", pa.float64(), "instantaneous draw", unit="W"),
        field("energy_j", pa.float64(), "the device's own counter", unit="J"),
        field("temperature_c", pa.float64(), "of the device", unit="degC"),
        field("clock_mhz", pa.float64(), "compute clock", unit="MHz"),
        field("throttle", pa.string(), "reasons by the vendor's names, joined by commas"),
    ]
)

HOST = pa.schema(
    [
        field("run_id", pa.string(), "run of a matrix", required=True),
        field("launch_id", pa.string(), "the engine start it describes", required=True),
        field("attempt", pa.int32(), "0 for the first try", unit="count", required=True),
        field("name", pa.string(), "what is said: kernel, cpu_model, cores, governor, gpu.0.name ...", required=True),
        field("value", pa.string(), "as read; NULL where the machine does not say"),
    ]
)

QUALITY_ITEMS = pa.schema(
    [
        *TRIAL_KEY,
        field("item_id", pa.string(), "the same item in every recipe and run", required=True),
        field("suite", pa.string(), "suite and version", required=True),
        field("category", pa.string(), "of the suite: needle, tool_call, ...", required=True),
        field("stratum", pa.string(), "difficulty within the category"),
        field("cluster", pa.string(), "items of one cluster share a prompt and are not independent", required=True),
        field("context_tok", pa.int32(), "prompt length", unit="tok", required=True),
        field("correct", pa.bool_(), "exact match after strict scoring; NULL where no answer came"),
        field("expected", pa.string(), "the right answer", required=True),
        field("answer", pa.string(), "what the model said"),
        field("degenerate", pa.string(), "nan, empty, garbage, flood or loop; NULL for none of them"),
    ]
)

QUALITY_POSITIONS = pa.schema(
    [
        *TRIAL_KEY,
        field("item_id", pa.string(), "the item whose right answer is forced", required=True),
        field("position", pa.int32(), "token of the answer", unit="index", required=True),
        field("token", pa.int32(), "the right token", unit="id", required=True),
        field("ids", pa.list_(pa.int32()), "token ids, ascending", unit="id", required=True),
        field("logprobs", pa.list_(pa.float32()), "the engine's log-probability of each id", unit="nat", required=True),
    ]
)
