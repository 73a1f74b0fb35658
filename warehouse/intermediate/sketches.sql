-- Row: a good speed trial with the sketches of its latencies, NULL where it has none.
-- Key: run_id, trial_id.
-- Units: the sketches' values in ms. merged_quantiles and merged_bins (macros) merge them over any grouping.
SELECT
    t.run_id, t.trial_id, t.cell_id, r.last_submitted_at AS submitted_at, r.origin,
    t.model, t.random_weights, t.recipe, t.reference, t.engine, t.engine_version, t.hardware,
    t.gpus, t.tp, t.pp, t.dp, t.batch, t.rate_per_s, t.context_tok, t.output_tok, t.repeat, t.started_at,
    s.ttft_sketch, s.itl_sketch
FROM good_trials AS t
INNER JOIN trial_sketches AS s ON t.run_id = s.run_id AND t.trial_id = s.trial_id AND t.attempt = s.attempt
LEFT JOIN runs AS r ON t.run_id = r.run_id
WHERE t.kind = 'speed'
