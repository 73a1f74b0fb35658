"""Arrow schemas of what was planned and what came of it: runs, launches, trials, refusals."""

from __future__ import annotations

import pyarrow as pa

from fleetbench_collectors import tables
from fleetbench_collectors.tables import field

STAMP = pa.timestamp("us", tz="UTC")

RECIPE_AXES = (
    field("model", pa.string(), "name in the matrix", required=True),
    field("model_digest", pa.string(), "sha256 of what determines the weights"),
    field("random_weights", pa.bool_(), "random weights: speed means something, quality does not", required=True),
    field("recipe", pa.string(), "name in the matrix", required=True),
    field("reference", pa.bool_(), "the recipe that speed-up and parity are relative to", required=True),
    field("weights", pa.string(), "weight format"),
    field("activations", pa.string(), "activation format"),
    field("kv_k", pa.string(), "key cache format"),
    field("kv_v", pa.string(), "value cache format"),
    field("scheme", pa.string(), "bits of weights, activations and a narrow cache: W4A16, W8A8KV8"),
    field("method", pa.string(), "what made the weights"),
    field("artifact_id", pa.string(), "identity of the quantized checkpoint"),
    field("engine", pa.string(), "name of the adapter", required=True),
    field("engine_version", pa.string(), "as it was found at planning"),
    field("hardware", pa.string(), "local, or the node tag", required=True),
    field("gpus", pa.int32(), "0 where the engine runs on the CPU, NULL where nobody knows", unit="count"),
    field("tp", pa.int32(), "tensor-parallel degree, NULL where nobody knows", unit="count"),
    field("pp", pa.int32(), "pipeline-parallel degree, NULL where nobody knows", unit="count"),
    field("dp", pa.int32(), "data-parallel degree, NULL where nobody knows", unit="count"),
)

RUNS = pa.schema(
    [
        field("run_id", pa.string(), "hash of the canonical matrix and the run's name", required=True),
        field("run", pa.string(), "the run's name", required=True),
        field("matrix", pa.string(), "the matrix's name", required=True),
        field("analysis", pa.string(), "the question that the matrix asks", required=True),
        field("matrix_json", pa.string(), "the canonical matrix", required=True),
        field("reference", pa.string(), "name of the reference recipe", required=True),
        field("submitted_at", STAMP, "one row per submission; resuming adds one", unit="UTC", required=True),
        field("fleetbench_version", pa.string(), "", required=True),
        field("cells", pa.int32(), "cells that can run", unit="count", required=True),
        field("refusals", pa.int32(), "cells refused at planning", unit="count", required=True),
        field("trials", pa.int32(), "trials planned", unit="count", required=True),
        field("origin", pa.string(), "fleetbench, or the format that it was imported from", required=True),
        field("source", pa.string(), "file that it was imported from; NULL where it was measured by fleetbench"),
        field("source_sha256", pa.string(), "of that file's content, unpacked"),
        field("licence", pa.string(), "under which its publisher gives it, as far as it says"),
        field("unmapped", pa.list_(pa.string()), "names in it that the catalog does not know, kept as they are"),
    ]
)

LAUNCHES = pa.schema(
    [
        field("run_id", pa.string(), "", required=True),
        field("launch_id", pa.string(), "one engine start of the plan", required=True),
        field("attempt", pa.int32(), "0 for the first try", unit="count", required=True),
        field("role", pa.string(), "measure, or control: the reference once more at the end", required=True),
        *RECIPE_AXES,
        field("outcome", pa.string(), "ok, launch_failed, oom, timeout or crashed; if lost, no row", required=True),
        field("reason", pa.string(), "one sentence where it is not ok"),
        field("log_tail", pa.string(), "last lines of the engine's log where it is not ok"),
        field("node", pa.string(), "host name", required=True),
        field("lease", pa.string(), "FLEETBENCH_LEASE in the engine's environment", required=True),
        field("started_at", STAMP, "", unit="UTC", required=True),
        field("wall_s", pa.float64(), "from start to shutdown", unit="s", required=True),
        field("staged_s", pa.float64(), "of it, before the engine's start: weights and checkpoint", unit="s"),
        field("artifact_bytes", pa.int64(), "size of the checkpoint", unit="bytes"),
        field("artifact_s", pa.float64(), "making it; NULL where it was in the cache", unit="s"),
        field("model_hub", pa.string(), "where the model was published"),
        field("model_revision", pa.string(), "the commit that was meant"),
        field("cause", pa.string(), "in a word, why it did not start: oom, unsupported, missing_file, port, ..."),
        field("ready_s", pa.float64(), "process start to health", unit="s"),
        field("first_token_s", pa.float64(), "process start to first token", unit="s"),
        field("cold_read_s", pa.float64(), "of it, weights from storage; NULL where the engine does not say", unit="s"),
        field("cold_load_s", pa.float64(), "of it, weights made ready beyond reading", unit="s"),
        field("cold_compile_s", pa.float64(), "of it, kernels, graphs and warm-up", unit="s"),
        field("cold_first_s", pa.float64(), "of it, health to first token", unit="s"),
        field("storage", pa.string(), "what the checkpoint was read from: nvme, ssd, disk, memory, network, ..."),
        field("requested", pa.string(), "JSON: what was asked of the engine"),
        field("effective", pa.string(), "JSON: what the engine says that it runs"),
        field("differences", pa.list_(pa.string()), "asked for and not applied"),
        field("expected_kernel", pa.string(), "that the catalog expects to multiply the weights"),
        field("applied_weights", pa.string(), "weight format by the engine's own word; NULL where it does not say"),
        field("applied_kv_k", pa.string(), "key cache format, likewise"),
        field("applied_kv_v", pa.string(), "value cache format, likewise"),
        field("applied_context_tok", pa.int64(), "longest sequence that it takes, likewise", unit="tok"),
        field("applied_tp", pa.int32(), "tensor-parallel degree, likewise", unit="count"),
        field("prefix_caching", pa.bool_(), "whether prompts are cached, likewise"),
        field("gemm_kernel", pa.string(), "what multiplies the weights, likewise"),
        field("attention_kernel", pa.string(), "attention backend, likewise"),
    ]
)

LATENCIES = tuple(
    column
    for name, doc in (
        ("ttft", "request start to first token"),
        ("itl", "between output tokens, each gap shared by its chunk's tokens"),
        ("tpot", "per output token after the first, one value a request"),
        ("e2e", "request start to last token"),
        ("ttfb", "request start to the first byte of the response's body"),
        ("ttft_intended", "scheduled start to first token"),
        ("e2e_intended", "scheduled start to last token"),
        ("queue", "scheduled start to the actual one"),
        ("gap", "between arrivals, whatever each brought"),
    )
    for column in (
        field(f"{name}_n", pa.int64(), f"samples of {name}", unit="count"),
        *(
            field(f"{name}_{stat}_ms", pa.float64(), f"{doc}: {stat}", unit="ms")
            for stat in ("mean", "p50", "p90", "p99")
        ),
    )
)

EVIDENCE = (
    field(
        "verdict", pa.string(), "valid, or the kinds of what is wrong joined by commas; NULL where nothing was judged"
    ),
    field("slo", pa.string(), "targets that a request must meet, ms; NULL where none were asked for"),
    field("goodput_per_s", pa.float64(), "requests that met all targets, over the window", unit="1/s"),
    field("goodput_ratio", pa.float64(), "requests that met all targets, over all that were sent", unit="ratio"),
    field("stamp", pa.string(), "where stamps come from: user or kernel"),
    field("read_lag_p99_us", pa.float64(), "how late the client read what had arrived", unit="us"),
    field("schedule_lag_p99_ms", pa.float64(), "scheduled start to the actual one; NULL in a closed loop", unit="ms"),
    field("client_cpu_ratio", pa.float64(), "CPU time over wall time of the client's busiest process", unit="ratio"),
    field("clock_step_ns", pa.int64(), "most that the wall clock moved against the monotonic one", unit="ns"),
    field("merged_ratio", pa.float64(), "chunks that shared a stamp with one before, over all", unit="ratio"),
    field("achieved_batch", pa.float64(), "mean in flight of a closed loop in its steady window", unit="requests"),
    field("cache_hit_tok", pa.int64(), "prompt tokens from a cache, by the engine's metrics", unit="tok"),
    field("steady_share_ratio", pa.float64(), "the steady window's share of the trial", unit="ratio"),
    field("steady_reason", pa.string(), "why there is no steady window"),
    field("steady_output_tok_s", pa.float64(), "output tokens over the steady window", unit="tok/s"),
    *(
        field(f"steady_{name}_{stat}_ms", pa.float64(), f"{name} within the steady window: {stat}", unit="ms")
        for name in ("ttft", "itl")
        for stat in ("p50", "p99")
    ),
)
"""What a speed trial certifies itself by."""

TRIALS = pa.schema(
    [
        *tables.TRIAL_KEY,
        field("cell_id", pa.string(), "the same cell in every run", required=True),
        field("launch_id", pa.string(), "engine start that it was measured on"),
        field("launch_attempt", pa.int32(), "the try of that start", unit="count"),
        field("repeat", pa.int32(), "0 for the first", unit="index", required=True),
        field("role", pa.string(), "measure or control", required=True),
        field("kind", pa.string(), "speed or quality", required=True),
        *RECIPE_AXES,
        field("batch", pa.int32(), "requests in flight, held constant", unit="count"),
        field("rate_per_s", pa.float64(), "open-loop arrivals", unit="1/s"),
        field("context_tok", pa.int32(), "prompt length, exact", unit="tok"),
        field("output_tok", pa.int32(), "output length, exact", unit="tok"),
        field("suite", pa.string(), "quality suite and version"),
        field("seed", pa.int64(), "of prompts and items", unit="id"),
        field("conditions", pa.string(), "JSON: what else an imported result was measured under; NULL of our own"),
        field("node", pa.string(), "host name"),
        field("started_at", STAMP, "", unit="UTC"),
        field("clock_wall_ns", pa.int64(), "wall clock of the pair that joins processes", unit="ns"),
        field("clock_mono_ns", pa.int64(), "monotonic clock of the same instant", unit="ns"),
        field("wall_s", pa.float64(), "the whole trial; NULL where nobody timed it", unit="s"),
        field("outcome", pa.string(), "ok, or why not", required=True),
        field("valid", pa.bool_(), "its numbers may be compared", required=True),
        field("reason", pa.string(), "one sentence where it is not ok"),
        field("log_tail", pa.string(), "last lines of the engine's log where it is not ok"),
        field("asked_requests", pa.int32(), "measured requests to be sent", unit="count"),
        field("completed_requests", pa.int32(), "of them, answered whole", unit="count"),
        field("failed_requests", pa.int32(), "of them, ended otherwise", unit="count"),
        field("cancelled_requests", pa.int32(), "of them, in flight when the trial was stopped", unit="count"),
        field("window_s", pa.float64(), "first start to last end of the measured requests", unit="s"),
        field("output_tok_s", pa.float64(), "output tokens over the window", unit="tok/s"),
        field("total_tok_s", pa.float64(), "prompt and output tokens over the window", unit="tok/s"),
        field("requests_per_s", pa.float64(), "completed requests over the window", unit="1/s"),
        field("prefill_tok_s", pa.float64(), "prompt tokens over time to first token, per stream", unit="tok/s"),
        field("decode_tok_s", pa.float64(), "output tokens after the first over their time, per stream", unit="tok/s"),
        field("tokens_from", pa.string(), "usage, or chunks where the server counts no tokens"),
        field("concurrency", pa.float64(), "requests in flight over the window, the mean", unit="requests"),
        field("user_tok_s_mean", pa.float64(), "1 / TPOT a request: mean", unit="tok/s"),
        field("user_tok_s_p50", pa.float64(), "1 / TPOT a request: p50", unit="tok/s"),
        *LATENCIES,
        *EVIDENCE,
        field("ttft_floor_ms", pa.float64(), "roofline: no request can be faster; NULL without figures", unit="ms"),
        field("itl_floor_ms", pa.float64(), "roofline: no step can be faster; NULL without figures", unit="ms"),
        field("ttft_sketch", tables.SKETCH, "mergeable, 1 % relative error", unit="ms"),
        field("itl_sketch", tables.SKETCH, "mergeable, 1 % relative error", unit="ms"),
        field("power_status", pa.string(), "available, or why not: unavailable, no_permission, ...", required=True),
        field("energy_j", pa.float64(), "of all devices over the window", unit="J"),
        field("energy_j_per_tok", pa.float64(), "per output token, gross", unit="J/tok"),
        field("power_mean_w", pa.float64(), "of all devices over the window", unit="W"),
        field("idle_power_w", pa.float64(), "of all devices, the engine up and no request in flight", unit="W"),
        field("quality_items", pa.int32(), "items answered", unit="count"),
        field("quality_correct", pa.int32(), "items right", unit="count"),
    ]
)

REFUSALS = pa.schema(
    [
        field("run_id", pa.string(), "", required=True),
        field("cell_id", pa.string(), "", required=True),
        *RECIPE_AXES,
        field("kind", pa.string(), "speed or quality", required=True),
        field("batch", pa.int32(), "", unit="count"),
        field("context_tok", pa.int32(), "", unit="tok"),
        field("output_tok", pa.int32(), "", unit="tok"),
        field("suite", pa.string(), ""),
        field("verdict", pa.string(), "emulated, hardware_cannot, engine_cannot, does_not_fit, ...", required=True),
        field("rule", pa.string(), "the rule that refused it", required=True),
        field("sentence", pa.string(), "the reason in a sentence", required=True),
        field("source", pa.string(), "whose word the rule is", required=True),
    ]
)

ARTIFACTS = pa.schema(
    [
        field("run_id", pa.string(), "the run, or the plan, that it was made for", required=True),
        field("artifact_id", pa.string(), "identity of the checkpoint", required=True),
        field("model", pa.string(), "name in the matrix", required=True),
        field("model_digest", pa.string(), "sha256 of what determines the weights", required=True),
        field("checkpoint", pa.string(), "gguf, or compressed by llmcompressor", required=True),
        field("weights", pa.string(), "weight format", required=True),
        field("activations", pa.string(), "activation format", required=True),
        field("scheme", pa.string(), "bits of weights, activations and a narrow cache", required=True),
        field("method", pa.string(), "what made the weights", required=True),
        field("group_size", pa.int32(), "weights that share a scale; NULL where the format says", unit="count"),
        field("calibration_sha256", pa.string(), "of the text that was looked at; NULL where none was"),
        field("protect", pa.list_(pa.string()), "layers kept at 16 bits", required=True),
        field("bytes", pa.int64(), "size of the checkpoint", unit="bytes", required=True),
        field("build_s", pa.float64(), "wall time of making it", unit="s", required=True),
        field("peak_rss_bytes", pa.int64(), "most resident memory of a process that made it", unit="bytes"),
        field("tool", pa.string(), "what made it, with versions"),
        field("node", pa.string(), "host name", required=True),
        field("made_at", STAMP, "", unit="UTC", required=True),
    ]
)

VERDICTS = pa.schema(
    [
        field("run_id", pa.string(), "", required=True),
        field("cell_id", pa.string(), "the quality cell that is judged", required=True),
        field("category", pa.string(), "of the suite; all for the candidate as a whole", required=True),
        *RECIPE_AXES,
        field("suite", pa.string(), "quality suite and version", required=True),
        field("verdict", pa.string(), "PASS, BLOCK, INCONCLUSIVE, UNJUDGED, or REFERENCE itself", required=True),
        field("why", pa.string(), "one sentence where it is not PASS"),
        field("contract_id", pa.string(), "digest of the contract; NULL where there is none to judge by"),
        field("contract", pa.string(), "JSON: reference, items, margins; on the row of all"),
        field("warnings", pa.list_(pa.string()), "what has to be known beside the verdict; on the row of all"),
        field("margin", pa.float64(), "the acceptable drop of the share that is right", unit="ratio"),
        field("n", pa.int64(), "items", unit="count"),
        field("lost", pa.float64(), "items that only the reference has right; of several runs the mean", unit="count"),
        field("gained", pa.float64(), "items that only the candidate has right, likewise", unit="count"),
        field("drop", pa.float64(), "lost less gained, over n", unit="ratio"),
        field("low", pa.float64(), "one-sided 95 % lower bound of the drop", unit="ratio"),
        field("high", pa.float64(), "one-sided 95 % upper bound of the drop", unit="ratio"),
        field("churn", pa.float64(), "share of items that differ between two runs of the reference", unit="ratio"),
        field("clusters", pa.int64(), "groups of items that belong together", unit="count"),
        field("p_regressed", pa.float64(), "chance of such a drop where nothing was lost, by Holm", unit="ratio"),
        field(
            "p_exact", pa.float64(), "the same of the category alone, exact; where items are independent", unit="ratio"
        ),
        field(
            "wanted_n", pa.int64(), "items that would decide it at power 0.8; NULL where it is decided", unit="count"
        ),
        field("judged_at", STAMP, "when it was judged", unit="UTC", required=True),
        field("fleetbench_version", pa.string(), "that judged", required=True),
    ]
)

SCHEMAS: dict[str, pa.Schema] = {
    "runs": RUNS,
    "launches": LAUNCHES,
    "trials": TRIALS,
    "refusals": REFUSALS,
    "artifacts": ARTIFACTS,
    "verdicts": VERDICTS,
    "requests": tables.REQUESTS,
    "engine_metrics": tables.ENGINE_METRICS,
    "quality_items": tables.QUALITY_ITEMS,
    "quality_positions": tables.QUALITY_POSITIONS,
    "power": tables.POWER,
    "host": tables.HOST,
}

VERSION = 2
"""Of all tables together. A column that may be NULL is added without a new one; readers refuse a later one."""

FORMER: dict[int, dict[str, pa.Schema]] = {
    1: {
        "runs": pa.schema(
            [
                column
                for column in RUNS
                if column.name not in {"origin", "source", "source_sha256", "licence", "unmapped"}
            ]
        )
    }
}
"""By version, the tables that meant something else; warehouse/staging/v<version>/<table>.sql makes today's of them."""


def schema_of(table: str, version: int = VERSION) -> pa.Schema:
    """What a table was like in a version."""
    for former in range(version, VERSION):
        if table in FORMER.get(former, {}):
            return FORMER[former][table]
    return SCHEMAS[table]
