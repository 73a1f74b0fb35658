-- Must be empty: a good speed trial of ours without a rate; an imported result may tell of latencies alone.
SELECT t.run_id, t.trial_id
FROM good_trials AS t
INNER JOIN runs AS r ON t.run_id = r.run_id
WHERE t.kind = 'speed' AND t.output_tok_s IS NULL AND r.origin = 'fleetbench'
