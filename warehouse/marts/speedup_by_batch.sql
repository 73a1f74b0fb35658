-- Row: a recipe against the reference at one batch, all else equal, and the batch where that turns.
-- Key: run_id, cell_id.
-- Units: ratios of output tok/s over the reference's at the same batch (cmp_recipe), with low and high over pairs of
-- trials. A series is one recipe at one load shape and place of a run; n is its batches with a ratio, n_left_out those
-- without, and left_out says why. turns_at_batch: the first batch of the series at which the ratio is on the other side
-- of 1 than at the smallest one; turns_after_batch: the one before it; turns: below or above. NULL where it never
-- turns.
WITH ratios AS (
    SELECT
        run_id, cell_id, submitted_at, origin, model, random_weights, recipe, engine, engine_version, hardware,
        gpus, tp, pp, dp, batch, context_tok, output_tok, trials, reference_trials, output_tok_s, reference_tok_s,
        speedup_ratio, speedup_low_ratio, speedup_high_ratio, no_ratio,
        speedup_ratio >= 1 AS above,
        hash(
            run_id, model, model_digest, recipe, kv, engine, engine_version, hardware, gpus, tp, pp, dp, context_tok,
            output_tok, seed
        ) AS series  -- 64 bits: what is not equal is told apart, faster than by its columns
    FROM cmp_recipe
    WHERE NOT reference AND batch IS NOT NULL
),

firsts AS (
    SELECT
        series,
        arg_min(above, batch) AS above_at_first,
        count(speedup_ratio) AS n,
        count(*) - count(speedup_ratio) AS n_left_out,
        left_out(no_ratio) AS left_out
    FROM ratios
    GROUP BY series
),

turns AS (
    SELECT r.series, min(r.batch) AS turns_at_batch
    FROM ratios AS r
    INNER JOIN firsts AS f ON r.series = f.series
    WHERE r.above <> f.above_at_first
    GROUP BY r.series
),

befores AS (
    SELECT r.series, max(r.batch) AS turns_after_batch
    FROM ratios AS r
    INNER JOIN turns AS t ON r.series = t.series
    WHERE r.batch < t.turns_at_batch AND r.speedup_ratio IS NOT NULL
    GROUP BY r.series
)

SELECT
    r.* EXCLUDE (series, above),
    b.turns_after_batch,
    t.turns_at_batch,
    CASE WHEN t.turns_at_batch IS NOT NULL THEN CASE WHEN f.above_at_first THEN 'below' ELSE 'above' END END AS turns,
    f.n, f.n_left_out, f.left_out
FROM ratios AS r
INNER JOIN firsts AS f ON r.series = f.series
LEFT JOIN turns AS t ON r.series = t.series
LEFT JOIN befores AS b ON r.series = b.series
