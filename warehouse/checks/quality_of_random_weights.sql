-- Must be empty: quality items of a model of random weights.
SELECT DISTINCT t.run_id, t.trial_id
FROM trials AS t
SEMI JOIN quality_items USING (run_id, trial_id, attempt)
WHERE t.random_weights
