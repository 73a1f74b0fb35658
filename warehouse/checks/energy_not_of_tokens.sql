-- Must be empty: an own trial whose energy per token is not its energy over its tokens (within one in a thousand).
SELECT t.run_id, t.trial_id, t.energy_j_per_tok, t.energy_j / (t.output_tok_s * t.window_s) AS of_tokens
FROM trials AS t
INNER JOIN runs AS r ON t.run_id = r.run_id
WHERE
    r.origin = 'fleetbench'
    AND abs(t.energy_j_per_tok * t.output_tok_s * t.window_s - t.energy_j) > 1e-3 * t.energy_j
