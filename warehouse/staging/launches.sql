-- Row: one start of an engine, every attempt.
-- Key: run_id, launch_id, attempt, started_at.
-- Units: _s seconds, _bytes bytes.
SELECT DISTINCT * FROM landed.launches
