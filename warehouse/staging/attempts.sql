-- Row: one committed attempt of a trial, the ones that do not count too.
-- Key: run_id, trial_id, attempt.
-- Units: as in trials.
-- quality: 0 good, 1 measured but not to be compared, 2 failed, 3 lost or cancelled (says nothing of the cell).
SELECT
    *,
    CASE
        WHEN outcome = 'ok' AND valid THEN 0
        WHEN outcome IN ('ok', 'invalid', 'not_applied') THEN 1
        WHEN outcome IN ('lost', 'cancelled') THEN 3
        ELSE 2
    END AS quality
FROM landed.trials
