-- Row: a speed cell beside the same work on another kind of hardware (other_*): every pair, both ways round.
-- Key: hardware, other_hardware, cell_id, other_cell_id.
-- Units: ratios of this one over the other, and those of cells.
-- Across runs and origins: of each hardware the cell counts that was measured last (latest_cells); run_id and
-- other_run_id say which, superseded_n and other_superseded_n how many older ones it stands for. Both agree in model
-- (its digest where known, else origin and name), recipe, engine, release (builds of one release, after +, are one:
-- every vendor has its own), parallelism and load; what is unknown agrees with nothing. Cells without a partner have no
-- row. `local` is whatever machine measured last. low and high: slowest trial over the other's fastest, and the other
-- way round; NULL where either has fewer than two. itl_mean_ratio is NULL where arrivals are not comparable, and
-- no_itl_ratio says why.
SELECT
    a.run_id, a.submitted_at, a.origin, a.hardware, a.cell_id,
    a.model, a.random_weights, a.recipe, a.engine, a.engine_version, a.gpus, a.tp, a.pp, a.dp,
    a.batch, a.rate_per_s, a.context_tok, a.output_tok,
    b.run_id AS other_run_id, b.submitted_at AS other_submitted_at, b.origin AS other_origin,
    b.hardware AS other_hardware, b.cell_id AS other_cell_id, b.engine_version AS other_engine_version,
    a.trials, b.trials AS other_trials, a.superseded_n, b.superseded_n AS other_superseded_n,
    a.output_tok_s, b.output_tok_s AS other_output_tok_s,
    a.output_tok_s_spread_ratio, b.output_tok_s_spread_ratio AS other_output_tok_s_spread_ratio,
    a.output_tok_s / nullif(b.output_tok_s, 0) AS speed_ratio,
    CASE
        WHEN least(a.trials, b.trials) >= 2 THEN a.output_tok_s_min / nullif(b.output_tok_s_max, 0)
    END AS speed_low_ratio,
    CASE
        WHEN least(a.trials, b.trials) >= 2 THEN a.output_tok_s_max / nullif(b.output_tok_s_min, 0)
    END AS speed_high_ratio,
    a.ttft_mean_ms, b.ttft_mean_ms AS other_ttft_mean_ms,
    a.ttft_mean_ms / nullif(b.ttft_mean_ms, 0) AS ttft_mean_ratio,
    a.tpot_mean_ms, b.tpot_mean_ms AS other_tpot_mean_ms,
    a.tpot_mean_ms / nullif(b.tpot_mean_ms, 0) AS tpot_mean_ratio,
    a.itl_mean_ms, b.itl_mean_ms AS other_itl_mean_ms,
    CASE
        WHEN itl_refusal(a.tokens_from, b.tokens_from, a.tokens_per_arrival, b.tokens_per_arrival) IS NULL
            THEN a.itl_mean_ms / nullif(b.itl_mean_ms, 0)
    END AS itl_mean_ratio,
    itl_refusal(a.tokens_from, b.tokens_from, a.tokens_per_arrival, b.tokens_per_arrival) AS no_itl_ratio,
    a.energy_j_per_tok / nullif(b.energy_j_per_tok, 0) AS energy_ratio,
    a.energy_n, b.energy_n AS other_energy_n
FROM latest_cells AS a
INNER JOIN latest_cells AS b
    ON
        a.hardware <> b.hardware
        AND a.engine = b.engine
        AND a.release = b.release
        AND a.model_key = b.model_key
        AND a.recipe_key = b.recipe_key
        AND a.parallel_key = b.parallel_key
        AND a.load_key = b.load_key
        AND same_recipe(a.recipe_json, b.recipe_json, a.recipe, b.recipe)
