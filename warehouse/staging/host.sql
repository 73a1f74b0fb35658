-- Row: one fact about the machine that an engine was started on; value is NULL where it does not say.
-- Key: run_id, launch_id, attempt, name.
SELECT * FROM landed.host
