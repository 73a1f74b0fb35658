-- Row: a category of a candidate, or all of it (category all), as it was judged last.
-- Key: run_id, cell_id, category.
-- Units: ratios and counts.
SELECT DISTINCT *
FROM landed.verdicts
QUALIFY judged_at = max(judged_at) OVER (PARTITION BY run_id, cell_id)
