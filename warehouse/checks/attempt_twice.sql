-- Must be empty: one attempt of a trial, committed twice.
SELECT run_id, trial_id, attempt, count(*) AS times
FROM attempts
GROUP BY run_id, trial_id, attempt
HAVING count(*) > 1
