-- Row: one of the engine's own metrics, read before or after a committed trial.
-- Key: run_id, trial_id, phase, name.
-- Units: as the engine reports them.
SELECT landed_rows.*
FROM landed.engine_metrics AS landed_rows
SEMI JOIN trials USING (run_id, trial_id, attempt)
