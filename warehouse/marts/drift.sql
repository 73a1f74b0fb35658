-- Row: a speed cell of the reference recipe, measured once more at the end of its run.
-- Key: run_id, cell_id.
-- ratio: median output tok/s of the control over that of the first launch; 1 is no drift.
SELECT
    run_id, cell_id, model, random_weights, recipe, engine, hardware, batch, rate_per_s, context_tok, output_tok,
    median(output_tok_s) FILTER (role = 'measure') AS first_tok_s,
    median(output_tok_s) FILTER (role = 'control') AS control_tok_s,
    count(output_tok_s) FILTER (role = 'measure') AS first_n,
    count(output_tok_s) FILTER (role = 'control') AS control_n,
    median(output_tok_s) FILTER (role = 'control')
    / nullif(median(output_tok_s) FILTER (role = 'measure'), 0) AS ratio
FROM trials
WHERE kind = 'speed' AND outcome = 'ok' AND valid
GROUP BY ALL
HAVING control_n > 0 AND first_n > 0
