-- Row: how far a recipe's next-token distributions are from the reference's, in the same run.
-- Key: run_id, model, recipe, engine, engine_version, hardware, cell_id.
-- Units: nats. KL(reference || recipe) at each forced position, over the ids that both give; kl_se_nat is
-- the standard error over positions. skipped: positions whose ids differ or that have a probability of 0.
WITH forced AS (
    SELECT
        t.run_id, t.cell_id, t.model, t.recipe, t.reference, t.engine, t.engine_version, t.hardware,
        t.tp, t.pp, t.dp, t.suite, t.seed, p.item_id, p.position, p.ids, p.logprobs
    FROM quality_positions AS p
    INNER JOIN good_trials AS t USING (run_id, trial_id, attempt)
    WHERE NOT t.random_weights
    QUALIFY t.repeat = min(t.repeat) OVER (PARTITION BY t.run_id, t.cell_id)
),

paired AS (
    SELECT
        c.run_id, c.cell_id, c.model, c.recipe, c.reference, c.engine, c.engine_version, c.hardware,
        CASE
            WHEN c.ids = r.ids
                THEN
                    list_sum(
                        list_transform(
                            list_zip(r.logprobs, c.logprobs),
                            lambda pair : exp(CAST(pair[1] AS DOUBLE))
                            * (CAST(pair[1] AS DOUBLE) - CAST(pair[2] AS DOUBLE))
                        )
                    )
        END AS kl_nat,
        list_position(c.logprobs, list_max(c.logprobs)) = list_position(r.logprobs, list_max(r.logprobs)) AS top
    FROM forced AS c
    INNER JOIN forced AS r
        USING (run_id, model, engine, engine_version, hardware, tp, pp, dp, suite, seed, item_id, position)
    WHERE r.reference
)

SELECT
    run_id, cell_id, model, recipe, reference, engine, engine_version, hardware,
    count(*) FILTER (isfinite(kl_nat)) AS positions,
    count(*) FILTER (kl_nat IS NULL OR NOT isfinite(kl_nat)) AS skipped,
    avg(kl_nat) FILTER (isfinite(kl_nat)) AS kl_mean_nat,
    stddev_samp(kl_nat) FILTER (isfinite(kl_nat))
    / sqrt(nullif(count(*) FILTER (isfinite(kl_nat)), 0)) AS kl_se_nat,
    quantile_cont(kl_nat, 0.9) FILTER (isfinite(kl_nat)) AS kl_p90_nat,
    max(kl_nat) FILTER (isfinite(kl_nat)) AS kl_max_nat,
    avg(CAST(top AS DOUBLE)) FILTER (isfinite(kl_nat)) AS top1_agree_ratio
FROM paired
GROUP BY ALL
