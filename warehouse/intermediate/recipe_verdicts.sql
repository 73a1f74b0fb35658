-- Row: what was judged of a recipe on an engine and hardware in a run, whatever the degrees of parallelism.
-- Key: run_id, model, recipe, kv_k, kv_v, engine, engine_version, hardware.
-- Units: none. verdict: of several, as for suites or degrees, the worst, by badness.
WITH judged AS (
    SELECT *, list_position(['REFERENCE', 'PASS', 'UNJUDGED', 'INCONCLUSIVE', 'BLOCK'], verdict) AS badness
    FROM verdicts
    WHERE category = 'all'
)

SELECT
    run_id, model, recipe, kv_k, kv_v, engine, engine_version, hardware,
    arg_max(verdict, badness) AS verdict,
    max(badness) AS badness
FROM judged
GROUP BY ALL
