-- Row: one request of a committed trial, warm-up too (phase).
-- Key: run_id, trial_id, request.
-- Units: _ns nanoseconds on the trial's monotonic clock, _us microseconds, _tok tokens.
SELECT landed_rows.*
FROM landed.requests AS landed_rows
SEMI JOIN trials USING (run_id, trial_id, attempt)
