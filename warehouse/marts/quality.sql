-- Row: how a recipe did in one category of a quality suite. Models of random weights have no quality.
-- Key: run_id, cell_id, category.
-- Units: counts and ratios.
-- n counts answers, unanswered the items without one; low and high: Wilson 95 % interval of accuracy (ratios).
-- Items of one cluster (needle: one haystack) are not independent: their interval is wider than this one.
WITH answers AS (
    SELECT
        t.run_id, t.cell_id, t.model, t.recipe, t.reference, t.engine, t.engine_version, t.hardware,
        i.suite, i.category, i.correct
    FROM quality_items AS i
    INNER JOIN quality_trials AS t USING (run_id, trial_id, attempt)
),

counted AS (
    SELECT
        run_id, cell_id, model, recipe, reference, engine, engine_version, hardware, suite, category,
        count(correct) AS n,
        count(*) FILTER (correct) AS correct,
        count(*) - count(correct) AS unanswered
    FROM answers
    GROUP BY ALL
)

SELECT
    counted.*,
    r.last_submitted_at AS submitted_at,
    r.origin,
    correct / nullif(n, 0) AS accuracy,
    (correct + z * z / 2 - z * sqrt(correct * (n - correct) / nullif(n, 0) + z * z / 4)) / (n + z * z) AS low,
    (correct + z * z / 2 + z * sqrt(correct * (n - correct) / nullif(n, 0) + z * z / 4)) / (n + z * z) AS high
FROM counted
LEFT JOIN runs AS r ON counted.run_id = r.run_id
CROSS JOIN (SELECT 1.959963984540054 AS z)
