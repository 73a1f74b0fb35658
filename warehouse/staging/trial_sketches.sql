-- Row: the sketches of one trial, by the attempt that counts. Apart from trials: they are most of its bytes.
-- Key: run_id, trial_id.
-- Units: of the sketched values ms.
SELECT
    landed_rows.run_id,
    landed_rows.trial_id,
    landed_rows.attempt,
    landed_rows.ttft_sketch,
    landed_rows.itl_sketch
FROM landed.trials AS landed_rows
SEMI JOIN trials USING (run_id, trial_id, attempt)
