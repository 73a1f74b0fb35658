-- Row: one cell of a run: measured, failed or refused.
-- Key: run_id, cell_id; the same cell_id in another run is the same cell.
-- Numbers: medians over the good trials (trials), spread beside; latencies pooled over their requests, exact,
-- beside them the spread of the trials' means; p99 is NULL below 100 samples. A cell without a good trial has outcome and reason, and NULL for numbers.
-- *_floor_ms: the least that the hardware allows (roofline), NULL where its figures are unknown; *_roofline_ratio:
-- that over what was measured, so 1 is the hardware's limit.
-- Units: _tok_s tokens a second, _ms milliseconds, _j_per_tok joules an output token, _w watts.
SELECT
    t.run_id,
    t.cell_id,
    t.kind,
    t.model,
    t.model_digest,
    t.random_weights,
    t.recipe,
    t.reference,
    t.weights,
    t.activations,
    CASE WHEN t.kv_k = t.kv_v THEN t.kv_k ELSE 'k=' || t.kv_k || ' v=' || t.kv_v END AS kv,
    t.scheme,
    t.method,
    t.artifact_id,
    t.engine,
    t.engine_version,
    t.hardware,
    t.gpus,
    t.tp,
    t.pp,
    t.dp,
    t.batch,
    t.rate_per_s,
    t.context_tok,
    t.output_tok,
    t.suite,
    t.seed,
    c.trials,
    c.trials_not_ok,
    c.output_tok_s,
    c.output_tok_s_spread_ratio,
    c.output_tok_s_min,
    c.output_tok_s_max,
    c.total_tok_s,
    c.requests_per_s,
    c.prefill_tok_s,
    c.decode_tok_s,
    l.* EXCLUDE (run_id, cell_id),
    c.ttft_floor_ms,
    c.itl_floor_ms,
    c.ttft_floor_ms / nullif(l.ttft_mean_ms, 0) AS ttft_roofline_ratio,
    c.itl_floor_ms / nullif(l.itl_mean_ms, 0) AS itl_roofline_ratio,
    c.ttft_mean_ms_spread_ratio,
    c.itl_mean_ms_spread_ratio,
    c.energy_j_per_tok,
    c.energy_n,
    c.energy_spread_ratio,
    c.power_mean_w,
    c.power_status,
    c.trials > 0 AS valid,
    CAST(NULL AS VARCHAR) AS quality_verdict,
    CASE WHEN t.outcome = 'ok' AND NOT t.valid THEN 'invalid' ELSE t.outcome END AS outcome,
    t.reason
FROM cell_trials AS c
INNER JOIN trials AS t ON t.run_id = c.run_id AND t.trial_id = c.worst_trial_id
LEFT JOIN cell_latencies AS l ON l.run_id = c.run_id AND l.cell_id = c.cell_id
UNION ALL BY NAME
SELECT
    * EXCLUDE (kv_k, kv_v, verdict, rule, sentence, source),
    CASE WHEN kv_k = kv_v THEN kv_k ELSE 'k=' || kv_k || ' v=' || kv_v END AS kv,
    CAST(0 AS BIGINT) AS trials,
    CAST(0 AS BIGINT) AS trials_not_ok,
    FALSE AS valid,
    'refused' AS outcome,
    sentence AS reason
FROM refusals
ANTI JOIN cell_trials USING (run_id, cell_id)
