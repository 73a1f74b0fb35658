-- Row: a recipe over the cells of a run that have a reference: one engine, place and model.
-- Key: run_id, model, random_weights, recipe, engine, engine_version, hardware, gpus, tp, pp, dp.
-- Units: ratios of output tok/s over the reference's at the same load.
-- speedup_geomean_ratio: the geometric mean over n cells; spread: lowest, highest and the geometric standard deviation.
-- n_left_out cells have no ratio; left_out says why, each reason once with its count.
SELECT
    run_id, submitted_at, origin, model, random_weights, recipe, reference, engine, engine_version, hardware,
    gpus, tp, pp, dp,
    count(speedup_ratio) AS n,
    geomean(speedup_ratio) AS speedup_geomean_ratio,
    min(speedup_ratio) AS speedup_lowest_ratio,
    max(speedup_ratio) AS speedup_highest_ratio,
    geometric_sd(speedup_ratio) AS speedup_geometric_sd,
    count(*) - count(speedup_ratio) AS n_left_out,
    left_out(no_ratio) AS left_out
FROM cmp_recipe
GROUP BY ALL
