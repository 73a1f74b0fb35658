-- Row: how far a recipe's next-token distributions are from the reference's, in the same run.
-- Key: run_id, model, recipe, engine, engine_version, hardware, cell_id.
-- Units: nats. KL(reference || recipe) at each forced position, over the ids that both give; kl_se_nat is
-- the standard error over positions. skipped: positions whose ids differ or that have a probability of 0.
WITH forced AS (
    SELECT
        t.run_id, t.cell_id, t.model, t.recipe, t.reference, t.engine, t.engine_version, t.hardware,
        t.tp, t.pp, t.dp, t.suite, t.seed, p.item_id, p.position, p.ids, CAST(p.logprobs AS DOUBLE []) AS logprobs
    FROM quality_positions AS p
    INNER JOIN quality_trials AS t USING (run_id, trial_id, attempt)
),

reference_positions AS (
    SELECT
        *,
        list_transform(logprobs, lambda logprob : exp(logprob)) AS probabilities
    FROM forced
    WHERE reference
),

paired AS (
    SELECT
        c.run_id, c.cell_id, c.model, c.recipe, c.reference, c.engine, c.engine_version, c.hardware,
        CASE
            WHEN c.ids = r.ids
                THEN
                    list_inner_product(r.probabilities, r.logprobs)
                    - list_inner_product(r.probabilities, c.logprobs)
        END AS kl_nat,
        list_position(c.logprobs, list_max(c.logprobs)) = list_position(r.logprobs, list_max(r.logprobs)) AS top
    FROM forced AS c
    INNER JOIN reference_positions AS r
        USING (run_id, model, engine, engine_version, hardware, tp, pp, dp, suite, seed, item_id, position)
)

SELECT
    p.run_id, r.last_submitted_at AS submitted_at, r.origin, cell_id, model, recipe, p.reference, engine, engine_version,
    hardware,
    count(*) FILTER (isfinite(kl_nat)) AS positions,
    count(*) FILTER (kl_nat IS NULL OR NOT isfinite(kl_nat)) AS skipped,
    avg(kl_nat) FILTER (isfinite(kl_nat)) AS kl_mean_nat,
    stddev_samp(kl_nat) FILTER (isfinite(kl_nat))
    / sqrt(nullif(count(*) FILTER (isfinite(kl_nat)), 0)) AS kl_se_nat,
    quantile_cont(kl_nat, 0.9) FILTER (isfinite(kl_nat)) AS kl_p90_nat,
    max(kl_nat) FILTER (isfinite(kl_nat)) AS kl_max_nat,
    avg(CAST(top AS DOUBLE)) FILTER (isfinite(kl_nat)) AS top1_agree_ratio
FROM paired AS p
LEFT JOIN runs AS r ON p.run_id = r.run_id
GROUP BY ALL
