-- Row: a good speed cell that stands for its kind across runs: of those that agree in hardware, engine, model, recipe,
-- parallelism and load, the one that was measured last (where nobody knows when, whose run was submitted last).
-- Key: run_id, cell_id.
-- Units: as in cells. superseded_n counts the older ones that it stands for.
-- Left out: cells without a good trial, and those of which the release, recipe, parallelism or load is unknown.
SELECT
    * EXCLUDE (recipe_name),
    count(*) OVER same - 1 AS superseded_n
FROM (SELECT *, CASE WHEN recipe_json IS NULL THEN recipe END AS recipe_name FROM speed_cells)
WHERE
    trials > 0
    AND known(hardware) IS NOT NULL
    AND known(engine) IS NOT NULL
    AND release IS NOT NULL
    AND recipe_key IS NOT NULL
    AND parallel_key IS NOT NULL
    AND load_key IS NOT NULL
WINDOW same AS (PARTITION BY hardware, engine, model_key, recipe_key, recipe_json, recipe_name, parallel_key, load_key)
QUALIFY
    row_number() OVER (
        PARTITION BY hardware, engine, model_key, recipe_key, recipe_json, recipe_name, parallel_key, load_key
        ORDER BY coalesce(started_at, submitted_at) DESC NULLS LAST, trials DESC, run_id, cell_id
    ) = 1
