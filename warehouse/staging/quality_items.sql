-- Row: one answer of a committed quality trial.
-- Key: run_id, trial_id, item_id.
-- Units: _tok tokens.
SELECT landed_rows.*
FROM landed.quality_items AS landed_rows
SEMI JOIN (SELECT run_id, trial_id, attempt FROM trials WHERE kind = 'quality') USING (run_id, trial_id, attempt)
