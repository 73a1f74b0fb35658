-- Row: a committed attempt of a trial that did not end well, or whose numbers may not be compared.
-- Key: run_id, trial_id, attempt.
-- Units: _tok tokens; times in UTC.
SELECT
    run_id, trial_id, attempt, cell_id, role, kind, model, recipe, engine, engine_version, hardware,
    batch, rate_per_s, context_tok, output_tok, outcome, valid, reason, log_tail, node, started_at
FROM attempts
WHERE outcome <> 'ok' OR NOT valid
