-- Row: a category of a recipe against its reference, or all of it (category all), as it was judged last.
-- Key: run_id, cell_id, category.
-- Units: drop, its one-sided 95 % bounds low and high, margin and churn are shares of the items: 0.02 is two points.
-- verdict: PASS where high is below the margin, BLOCK where a loss is shown, else INCONCLUSIVE, and wanted_n items would
-- decide it; UNJUDGED says why in why and never counts as passed; all passes where every category does.
SELECT
    v.run_id, v.cell_id, r.origin, r.last_submitted_at AS submitted_at, v.model, v.recipe,
    CASE WHEN v.kv_k = v.kv_v THEN v.kv_k ELSE 'k=' || v.kv_k || ' v=' || v.kv_v END AS kv,
    v.engine, v.engine_version, v.hardware, v.tp, v.pp, v.dp, v.suite,
    v.category, v.verdict, v.n, v.drop, v.low, v.high, v.margin, v.churn, v.lost, v.gained, v.clusters,
    v.p_regressed, v.p_exact, v.wanted_n, v.why,
    CASE WHEN v.verdict = 'UNJUDGED' THEN v.why END AS left_out,
    v.warnings, v.contract_id, v.judged_at
FROM verdicts AS v
LEFT JOIN runs AS r ON v.run_id = r.run_id
