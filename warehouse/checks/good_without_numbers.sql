-- Must be empty: a good speed trial without a rate.
SELECT run_id, trial_id FROM good_trials WHERE kind = 'speed' AND output_tok_s IS NULL
