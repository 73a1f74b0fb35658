-- Row: how much of a run there is: what was asked, done, failed and refused.
-- Key: run_id.
-- Units: counts of cells and trials; submitted_at is the last time. A run has many kinds of hardware and recipes:
-- filter those in cells.
-- cells_*: by outcome, which is that of a cell's worst trial; cells_missing: planned and without any trial. Submitting
-- the run again runs what was cancelled or lost, and what is missing. trials_planned counts the control too.
SELECT
    r.run_id, r.last_submitted_at AS submitted_at, r.origin, r.run, r.matrix, r.reference,
    r.first_submitted_at, r.last_submitted_at, r.submissions,
    r.cells AS cells_planned,
    coalesce(c.ok, 0) AS cells_ok,
    coalesce(c.invalid, 0) AS cells_invalid,
    coalesce(c.failed, 0) AS cells_failed,
    coalesce(c.refused, 0) AS cells_refused,
    coalesce(c.cancelled, 0) AS cells_cancelled,
    coalesce(c.lost, 0) AS cells_lost,
    greatest(0, r.cells - coalesce(c.tried, 0)) AS cells_missing,
    r.trials AS trials_planned,
    coalesce(t.good, 0) AS trials_ok,
    coalesce(t.seen, 0) AS trials_committed,
    t.last_at AS last_trial_at
FROM runs AS r
LEFT JOIN (
    SELECT
        run_id,
        count(*) FILTER (outcome = 'ok') AS ok,
        count(*) FILTER (outcome IN ('invalid', 'not_applied')) AS invalid,
        count(*) FILTER (outcome = 'refused') AS refused,
        count(*) FILTER (
            outcome NOT IN ('ok', 'invalid', 'not_applied', 'refused', 'cancelled', 'lost')
        ) AS failed,
        count(*) FILTER (outcome = 'cancelled') AS cancelled,
        count(*) FILTER (outcome = 'lost') AS lost,
        count(*) FILTER (outcome <> 'refused') AS tried
    FROM cells
    GROUP BY run_id
) AS c USING (run_id)
LEFT JOIN (
    SELECT
        run_id,
        count(*) AS seen,
        count(*) FILTER (outcome = 'ok' AND valid) AS good,
        max(started_at) AS last_at
    FROM trials
    GROUP BY run_id
) AS t USING (run_id)
