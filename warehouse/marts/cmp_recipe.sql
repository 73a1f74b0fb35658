-- Row: a speed cell beside the reference recipe's cell of the same run, model, engine, place and load.
-- Key: run_id, cell_id.
-- speedup_ratio: output tok/s over the reference's, both medians; low and high: slowest trial over the
-- reference's fastest, and the other way round. The ratio is NULL where either has no good trial, low and high
-- where either has fewer than two: of one trial nobody knows the spread.
WITH speed AS (SELECT * FROM cells WHERE kind = 'speed')

SELECT
    c.*,
    r.output_tok_s AS reference_tok_s,
    c.output_tok_s / nullif(r.output_tok_s, 0) AS speedup_ratio,
    CASE
        WHEN least(c.trials, r.trials) >= 2 THEN c.output_tok_s_min / nullif(r.output_tok_s_max, 0)
    END AS speedup_low_ratio,
    CASE
        WHEN least(c.trials, r.trials) >= 2 THEN c.output_tok_s_max / nullif(r.output_tok_s_min, 0)
    END AS speedup_high_ratio
FROM speed AS c
LEFT JOIN speed AS r
    ON
        r.reference
        AND c.run_id = r.run_id
        AND c.model = r.model
        AND c.engine = r.engine
        AND c.engine_version = r.engine_version
        AND c.hardware = r.hardware
        AND c.tp IS NOT DISTINCT FROM r.tp
        AND c.pp IS NOT DISTINCT FROM r.pp
        AND c.dp IS NOT DISTINCT FROM r.dp
        AND c.batch IS NOT DISTINCT FROM r.batch
        AND c.rate_per_s IS NOT DISTINCT FROM r.rate_per_s
        AND c.context_tok IS NOT DISTINCT FROM r.context_tok
        AND c.output_tok IS NOT DISTINCT FROM r.output_tok
        AND c.seed IS NOT DISTINCT FROM r.seed
