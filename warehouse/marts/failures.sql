-- Row: an attempt that did not end well: of a trial, or of an engine start.
-- Key: run_id, what, id, attempt.
-- Units: none; times in UTC, submitted_at that of the run.
-- superseded: a later or better attempt counts in its place.
WITH found AS (
    SELECT
        a.run_id, 'trial' AS what, a.trial_id AS id, a.attempt, a.cell_id, a.model, a.recipe, a.engine, a.engine_version,
        a.hardware, a.batch, a.rate_per_s, a.context_tok, a.output_tok,
        CASE WHEN a.outcome = 'ok' THEN 'invalid' ELSE a.outcome END AS outcome,
        a.reason, a.log_tail, a.node, a.started_at,
        t.attempt <> a.attempt AS superseded
    FROM failed_attempts AS a
    INNER JOIN trials AS t USING (run_id, trial_id)
    UNION ALL BY NAME
    SELECT
        l.run_id, 'launch' AS what, l.launch_id AS id, l.attempt, l.model, l.recipe, l.engine, l.engine_version, l.hardware,
        l.outcome, l.reason, l.log_tail, l.node, l.started_at,
        EXISTS (
            SELECT 1
            FROM launches AS k
            WHERE
                k.run_id = l.run_id AND k.launch_id = l.launch_id
                AND k.outcome = 'ok' AND k.started_at > l.started_at
        ) AS superseded
    FROM launches AS l
    WHERE l.outcome <> 'ok'
)

SELECT found.*, r.last_submitted_at AS submitted_at, r.origin
FROM found
LEFT JOIN runs AS r ON found.run_id = r.run_id
