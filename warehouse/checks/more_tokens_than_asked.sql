-- Must be empty: a measured request of a good trial of ours whose token counts differ from what was asked.
SELECT r.run_id, r.trial_id, r.request, r.output_tok, r.asked_output_tok, r.prompt_tok, r.asked_prompt_tok
FROM requests AS r
INNER JOIN good_trials USING (run_id, trial_id, attempt)
SEMI JOIN (SELECT run_id FROM runs WHERE origin = 'fleetbench') AS own USING (run_id)
WHERE
    r.phase = 'measure' AND r.outcome = 'ok'
    AND (r.output_tok <> r.asked_output_tok OR r.prompt_tok <> r.asked_prompt_tok)
