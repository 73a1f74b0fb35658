-- Must be empty: one cell_id for different work.
SELECT cell_id, count(*) AS meanings
FROM (
    SELECT DISTINCT
        cell_id, artifact_id, kv_k, kv_v, engine, engine_version, hardware, tp, pp, dp, kind, batch, rate_per_s,
        context_tok, output_tok, suite, seed
    FROM trials
)
GROUP BY cell_id
HAVING count(*) > 1
