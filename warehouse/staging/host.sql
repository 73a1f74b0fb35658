-- Row: one fact about the machine that an engine was started on; value is NULL where it does not say.
-- Key: run_id, launch_id, attempt, name.
-- Units: by the name: _bytes, _mhz, _w ...; all as text.
SELECT DISTINCT * FROM landed.host
