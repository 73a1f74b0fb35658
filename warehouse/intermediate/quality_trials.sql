-- Row: the quality trial of a cell that counts: the first repeat of the good ones, of a model whose weights mean
-- something.
-- Key: run_id, cell_id.
-- Units: as in trials. Further repeats ask the same items again: they are left out.
SELECT
    run_id, trial_id, attempt, cell_id, model, recipe, reference, engine, engine_version, hardware, tp, pp, dp, suite, seed
FROM good_trials
WHERE kind = 'quality' AND NOT random_weights
QUALIFY row_number() OVER (PARTITION BY run_id, cell_id ORDER BY repeat, trial_id) = 1
