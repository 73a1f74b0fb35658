-- Row: the best throughput of a recipe that keeps to the SLO: the cell with most output tok/s per GPU over all batches
-- (or rates) and parallelism of one run.
-- Key: run_id, model, random_weights, recipe, engine, engine_version, hardware, context_tok, output_tok, slo.
-- Units: _tok_s tokens a second, _ms milliseconds; slo in ms (cell_slo says where it comes from and what keeps to it).
-- n cells were asked for with this SLO: n_within keep to it, n_outside do not, and n_left_out are unknown: without a
-- p99 (fewer than 100 samples), without a good trial, with an unknown number of GPUs, or their recipe is not shown to
-- keep its quality (unless that is asked for: SET VARIABLE unproven = true); left_out says which. A row without a cell
-- that keeps to it has NULL for numbers. trials and output_tok_s_spread_ratio are those of the best cell.
WITH judged AS (
    SELECT
        c.place, c.run_id, c.submitted_at, c.origin, c.model, c.random_weights, c.recipe, c.engine,
        c.engine_version, c.hardware, c.context_tok, c.output_tok,
        s.slo,
        s.within,
        c.output_tok_s / devices(c.gpus) AS tok_s_per_gpu,
        CASE
            WHEN c.trials = 0 THEN 'not measured: ' || c.outcome
            WHEN s.within IS NULL THEN 'no p99'
            WHEN c.output_tok_s / devices(c.gpus) IS NULL THEN 'rate or number of GPUs unknown'
            ELSE unproven(c.quality_verdict)
        END AS why
    FROM speed_cells AS c
    INNER JOIN cell_slo AS s ON c.place = s.place
),

best AS (
    SELECT
        run_id, submitted_at, origin, model, random_weights, recipe, engine, engine_version, hardware,
        context_tok, output_tok, slo,
        arg_max(place, tok_s_per_gpu) FILTER (within AND why IS NULL) AS place,
        count(*) AS n,
        count(*) FILTER (within AND why IS NULL) AS n_within,
        count(*) FILTER (NOT within AND why IS NULL) AS n_outside,
        count(why) AS n_left_out,
        left_out(why) AS left_out
    FROM judged
    GROUP BY ALL
)

SELECT
    b.* EXCLUDE (place),
    c.cell_id, c.quality_verdict, c.batch, c.rate_per_s, c.gpus, c.tp, c.pp, c.dp,
    c.output_tok_s, c.output_tok_s / devices(c.gpus) AS tok_s_per_gpu, c.user_tok_s_p50, c.goodput_per_s,
    c.ttft_p99_ms, c.itl_p99_ms, c.trials, c.output_tok_s_spread_ratio
FROM best AS b
LEFT JOIN speed_cells AS c ON b.place = c.place
