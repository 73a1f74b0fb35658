-- Row: a speed cell beside the same work by another engine (other_*) on the same kind of hardware: every pair, both
-- ways round.
-- Key: engine, other_engine, cell_id, other_cell_id.
-- Units: ratios of this one over the other, and those of cells.
-- Across runs and origins, and of each engine whatever release ran last: the cell counts that was measured last
-- (latest_cells); run_id and other_run_id, engine_version and other_engine_version say which, superseded_n and
-- other_superseded_n how many older ones it stands for. Both agree in
-- model (its digest where known, else origin and name), recipe, hardware, parallelism and load; what is unknown agrees
-- with nothing. Cells without a partner have no row.
-- low and high: slowest trial over the other's fastest, and the other way round; NULL where either has fewer than two.
-- itl_mean_ratio is NULL where tokens come in other portions (several a chunk, another stream interval), or nobody
-- knows, and no_itl_ratio says so: one gap then stands for another number of tokens. Compare tpot_mean_ratio or speed
-- instead.
SELECT
    a.run_id, a.submitted_at, a.origin, a.hardware, a.cell_id,
    a.model, a.random_weights, a.recipe, a.engine, a.engine_version, a.gpus, a.tp, a.pp, a.dp,
    a.batch, a.rate_per_s, a.context_tok, a.output_tok,
    b.run_id AS other_run_id, b.submitted_at AS other_submitted_at, b.origin AS other_origin,
    b.engine AS other_engine, b.engine_version AS other_engine_version, b.cell_id AS other_cell_id,
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
    a.tokens_per_arrival, b.tokens_per_arrival AS other_tokens_per_arrival,
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
        a.engine <> b.engine
        AND a.hardware = b.hardware
        AND a.model_key = b.model_key
        AND a.recipe_key = b.recipe_key
        AND a.parallel_key = b.parallel_key
        AND a.load_key = b.load_key
        AND same_recipe(a.recipe_json, b.recipe_json, a.recipe, b.recipe)
