-- Row: one submission of a run; resuming adds one.
-- Key: run_id, submitted_at.
SELECT * FROM landed.runs
