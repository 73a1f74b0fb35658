-- Row: one submission of a run; resuming adds one.
-- Key: run_id, submitted_at.
-- Units: counts; times in UTC.
SELECT DISTINCT * FROM landed.runs
