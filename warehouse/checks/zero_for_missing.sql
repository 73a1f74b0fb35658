-- Must be empty: a measurement of exactly 0; what is missing is NULL.
SELECT run_id, trial_id
FROM trials
WHERE energy_j = 0 OR power_mean_w = 0 OR output_tok_s = 0 OR ttft_p50_ms = 0
