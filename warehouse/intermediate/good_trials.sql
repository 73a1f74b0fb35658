-- Row: a trial whose numbers may be compared; the control at the end of a run is not among them (see drift).
-- Key: run_id, trial_id.
-- Units: as in trials.
SELECT * FROM trials WHERE role = 'measure' AND outcome = 'ok' AND valid
