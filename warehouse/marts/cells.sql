-- Row: one cell of a run: measured, failed or refused.
-- Key: run_id, cell_id; the same cell_id in another run is the same cell.
-- submitted_at: of the run, the last time; origin: fleetbench, or the format that the run was imported from.
-- Numbers: medians over the good trials (trials), spread beside. Latencies: n is summed over the good trials, the mean
-- is pooled by n, and a quantile is the median of the trials' own quantiles, not one of all requests pooled: ask
-- merged_quantiles for that. p99 is of the trials that have one; fleetbench's have none below 100 samples. Beside them
-- the spread of the trials' means. A cell without a good trial has outcome and reason, and NULL for numbers.
-- *_floor_ms: the least that the hardware allows (roofline), NULL where its figures are unknown; *_roofline_ratio:
-- that over what was measured, so 1 is the hardware's limit.
-- quality_verdict: of the recipe on this engine and hardware, judged with quality_model: the cell's own model, or where
-- that has no quality another one of the run, the worst of several. NULL where nobody judged it.
-- Units: _tok_s tokens a second, _ms milliseconds, _j_per_tok joules an output token, _w watts.
WITH stood_in AS (
    SELECT
        run_id, recipe, kv_k, kv_v, engine, engine_version, hardware,
        arg_max(verdict, badness) AS verdict,
        arg_max(model, badness) AS model
    FROM recipe_verdicts
    GROUP BY ALL
)

SELECT
    t.run_id,
    t.cell_id,
    r.origin,
    r.last_submitted_at AS submitted_at,
    c.started_at,
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
    t.conditions,
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
    c.user_tok_s_p50,
    c.concurrency,
    c.slo,
    c.goodput_per_s,
    c.goodput_ratio,
    c.tokens_from,
    c.tokens_per_arrival,
    c.merged_ratio,
    c.ttft_n,
    c.ttft_mean_ms,
    c.ttft_p50_ms,
    c.ttft_p90_ms,
    c.ttft_p99_ms,
    c.itl_n,
    c.itl_mean_ms,
    c.itl_p50_ms,
    c.itl_p90_ms,
    c.itl_p99_ms,
    c.tpot_n,
    c.tpot_mean_ms,
    c.tpot_p50_ms,
    c.tpot_p90_ms,
    c.tpot_p99_ms,
    c.e2e_n,
    c.e2e_mean_ms,
    c.e2e_p50_ms,
    c.e2e_p90_ms,
    c.e2e_p99_ms,
    c.ttft_floor_ms,
    c.itl_floor_ms,
    c.ttft_floor_ms / nullif(c.ttft_mean_ms, 0) AS ttft_roofline_ratio,
    c.itl_floor_ms / nullif(c.itl_mean_ms, 0) AS itl_roofline_ratio,
    c.ttft_mean_ms_spread_ratio,
    c.itl_mean_ms_spread_ratio,
    c.energy_j_per_tok,
    c.energy_n,
    c.energy_spread_ratio,
    c.energy_j_per_total_tok,
    c.net_j_per_tok,
    c.net_n,
    c.net_spread_ratio,
    c.idle_power_w,
    c.power_mean_w,
    c.power_status,
    c.trials > 0 AS valid,
    coalesce(own.verdict, other.verdict) AS quality_verdict,
    CASE WHEN own.verdict IS NOT NULL THEN own.model ELSE other.model END AS quality_model,
    CASE WHEN t.outcome = 'ok' AND NOT t.valid THEN 'invalid' ELSE t.outcome END AS outcome,
    t.reason
FROM cell_trials AS c
INNER JOIN trials AS t ON t.run_id = c.run_id AND t.trial_id = c.worst_trial_id
LEFT JOIN runs AS r ON t.run_id = r.run_id
LEFT JOIN recipe_verdicts AS own
    ON t.run_id = own.run_id
    AND t.model = own.model
    AND t.recipe = own.recipe
    AND t.kv_k = own.kv_k
    AND t.kv_v = own.kv_v
    AND t.engine = own.engine
    AND t.engine_version = own.engine_version
    AND t.hardware = own.hardware
LEFT JOIN stood_in AS other
    ON t.run_id = other.run_id
    AND t.recipe = other.recipe
    AND t.kv_k = other.kv_k
    AND t.kv_v = other.kv_v
    AND t.engine = other.engine
    AND t.engine_version = other.engine_version
    AND t.hardware = other.hardware
UNION ALL BY NAME
SELECT
    f.* EXCLUDE (kv_k, kv_v, verdict, rule, sentence, source),
    CASE WHEN f.kv_k = f.kv_v THEN f.kv_k ELSE 'k=' || f.kv_k || ' v=' || f.kv_v END AS kv,
    r.origin,
    r.last_submitted_at AS submitted_at,
    CAST(0 AS BIGINT) AS trials,
    CAST(0 AS BIGINT) AS trials_not_ok,
    FALSE AS valid,
    'refused' AS outcome,
    f.sentence AS reason
FROM refusals AS f
ANTI JOIN cell_trials AS c ON f.run_id = c.run_id AND f.cell_id = c.cell_id
LEFT JOIN runs AS r ON f.run_id = r.run_id
