-- Must be empty: a trial whose run was never submitted.
SELECT run_id, trial_id FROM trials ANTI JOIN runs USING (run_id)
