-- Row: a speed cell beside the reference recipe's cell of the same run, model, engine, place and load.
-- Key: run_id, cell_id.
-- Units: ratios, and those of cells.
-- speedup_ratio: output tok/s over the reference's, both medians; low and high: slowest trial over the
-- reference's fastest, and the other way round. The ratio is NULL where either has no good trial, and no_ratio says
-- which; low and high where either has fewer than two: of one trial nobody knows the spread.
WITH reference_cells AS (
    SELECT
        run_id, model, model_key, engine, engine_version, hardware, gpus, tp, pp, dp, batch, rate_per_s, context_tok,
        output_tok, seed, cell_id, trials, outcome, output_tok_s, output_tok_s_min, output_tok_s_max
    FROM speed_cells
    WHERE reference
    QUALIFY count(*) OVER (
        PARTITION BY
            run_id, model, model_key, engine, engine_version, hardware, gpus, tp, pp, dp, batch, rate_per_s, context_tok,
            output_tok, seed
    ) = 1
)

SELECT
    c.* EXCLUDE (place, latest, recipe_json, model_key, recipe_key, parallel_key, load_key, shape_key, release),
    r.cell_id AS reference_cell_id,
    r.trials AS reference_trials,
    r.output_tok_s AS reference_tok_s,
    c.output_tok_s / nullif(r.output_tok_s, 0) AS speedup_ratio,
    CASE
        WHEN least(c.trials, r.trials) >= 2 THEN c.output_tok_s_min / nullif(r.output_tok_s_max, 0)
    END AS speedup_low_ratio,
    CASE
        WHEN least(c.trials, r.trials) >= 2 THEN c.output_tok_s_max / nullif(r.output_tok_s_min, 0)
    END AS speedup_high_ratio,
    CASE
        WHEN c.trials = 0 THEN 'not measured: ' || c.outcome
        WHEN r.cell_id IS NULL THEN 'no cell of the reference agrees in model, version, place and load'
        WHEN r.trials = 0 THEN 'the reference was not measured: ' || r.outcome
        WHEN c.output_tok_s IS NULL OR r.output_tok_s IS NULL THEN 'no rate is stored'
    END AS no_ratio
FROM speed_cells AS c
LEFT JOIN reference_cells AS r
    ON
        c.run_id = r.run_id
        AND c.model = r.model
        AND c.model_key = r.model_key
        AND c.engine = r.engine
        AND c.engine_version = r.engine_version
        AND c.hardware = r.hardware
        AND c.gpus IS NOT DISTINCT FROM r.gpus
        AND c.tp IS NOT DISTINCT FROM r.tp
        AND c.pp IS NOT DISTINCT FROM r.pp
        AND c.dp IS NOT DISTINCT FROM r.dp
        AND c.batch IS NOT DISTINCT FROM r.batch
        AND c.rate_per_s IS NOT DISTINCT FROM r.rate_per_s
        AND c.context_tok IS NOT DISTINCT FROM r.context_tok
        AND c.output_tok IS NOT DISTINCT FROM r.output_tok
        AND c.seed IS NOT DISTINCT FROM r.seed
