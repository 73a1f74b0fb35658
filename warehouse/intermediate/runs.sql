-- Row: one run, as it was submitted last.
-- Key: run_id.
-- Units: counts; times in UTC.
SELECT
    * RENAME (submitted_at AS last_submitted_at),
    min(submitted_at) OVER (PARTITION BY run_id) AS first_submitted_at,
    count(*) OVER (PARTITION BY run_id) AS submissions
FROM runs_all
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY submitted_at DESC) = 1
