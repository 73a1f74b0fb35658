-- Row: the engine's distribution at one position of a right answer that is forced.
-- Key: run_id, trial_id, item_id, position.
-- Units: logprobs in nats.
SELECT landed_rows.*
FROM landed.quality_positions AS landed_rows
SEMI JOIN (SELECT run_id, trial_id, attempt FROM trials WHERE kind = 'quality') USING (run_id, trial_id, attempt)
