-- Row: the sketches of one committed attempt of a trial. Apart from trials: they are most of its bytes.
-- Key: run_id, trial_id, attempt; join them, for trials has the attempt that counts.
-- Units: of the sketched values ms.
SELECT run_id, trial_id, attempt, ttft_sketch, itl_sketch
FROM landed.trials
