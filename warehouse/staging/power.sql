-- Row: one reading of a power source during a committed trial, or why there is none.
-- Key: run_id, trial_id, source, device, at_ns.
-- Units: _w watts, _j joules, _c degrees Celsius, _ns nanoseconds.
SELECT landed_rows.*
FROM landed.power AS landed_rows
SEMI JOIN trials USING (run_id, trial_id, attempt)
