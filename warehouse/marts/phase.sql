-- Row: a good speed cell, prefill and decoding apart, each beside the reference recipe's at the same load.
-- Key: run_id, cell_id.
-- Units: _tok_s tokens a second of one stream (prompt tokens over TTFT; output tokens after the first over their time),
-- _ms milliseconds, ratios of those.
-- prefill_time_ratio: TTFT over the whole request, means. *_speedup_ratio: over the reference's rate; NULL where
-- no_ratio says why. *_roofline_ratio: the hardware's limit over what was measured.
-- Medians over the good trials (trials); the spreads are those of the trials' means. trials_not_ok are left out.
SELECT
    c.run_id, c.cell_id, c.origin, c.submitted_at, c.model, c.random_weights, c.recipe, c.reference, c.weights, c.kv,
    c.engine, c.engine_version, c.hardware, c.gpus, c.tp, c.pp, c.dp,
    c.batch, c.rate_per_s, c.context_tok, c.output_tok, c.trials, c.trials_not_ok,
    c.prefill_tok_s, c.ttft_mean_ms, c.ttft_p50_ms, c.ttft_p99_ms, c.ttft_mean_ms_spread_ratio, c.ttft_roofline_ratio,
    c.prefill_tok_s / nullif(r.prefill_tok_s, 0) AS prefill_speedup_ratio,
    c.decode_tok_s, c.itl_mean_ms, c.itl_p50_ms, c.itl_p99_ms, c.itl_mean_ms_spread_ratio, c.itl_roofline_ratio,
    c.decode_tok_s / nullif(r.decode_tok_s, 0) AS decode_speedup_ratio,
    c.ttft_mean_ms / nullif(c.e2e_mean_ms, 0) AS prefill_time_ratio,
    r.trials AS reference_trials,
    c.no_ratio
FROM cmp_recipe AS c
LEFT JOIN cells AS r ON c.run_id = r.run_id AND c.reference_cell_id = r.cell_id
WHERE c.trials > 0
