-- Row: a cell of kind speed, whatever became of it, with what has to agree before two of them are compared.
-- Key: run_id, cell_id.
-- Units: as in cells.
-- Equal keys are equal things; NULL where what they are is unknown, so that unknown never meets unknown:
--   model_key: the digest of what determines the weights; where nobody knows it, origin and model's name.
--   recipe_key: formats of weights, activations and cache, and method; where one but the weights is unknown, origin
--     and recipe's name too. recipe_json: all of the recipe but its name as the matrix has it (draft, groups, scales ...);
--     NULL where no matrix has it, as of imported runs. Two cells must agree in it as well, or where one has none, in
--     the recipe's name: the macro same_recipe.
--   parallel_key: degrees; where they are unknown, origin and number of GPUs.
--   load_key: batch or rate with its arrivals, context, output, and the conditions of imported ones. shape_key: context
--     and output alone.
--   release: the engine's version without the build's label (after +).
-- place: a number of its own, to join on. latest: the same cell (cell_id) was not measured later in another run (where
-- nobody knows when, its run not submitted later).
WITH recipes AS (
    SELECT
        run_id,
        json_extract_string(matrix_json, '$.load.arrivals') AS arrivals,
        unnest(json_extract(matrix_json, '$.recipes[*]')) AS spec
    FROM runs
    WHERE json_valid(matrix_json)
),

specs AS (
    SELECT
        run_id,
        json_extract_string(spec, '$.name') AS recipe,
        any_value(arrivals) AS arrivals,
        CAST(any_value(json_merge_patch(spec, '{"name": null}')) AS VARCHAR) AS recipe_json
    FROM recipes
    GROUP BY ALL
    HAVING count(*) = 1
),

judged AS (
    SELECT
        *,
        known(activations) IS NOT NULL AND known(kv) IS NOT NULL AND known(method) IS NOT NULL AS whole
    FROM cells
    WHERE kind = 'speed'
)

SELECT
    row_number() OVER (ORDER BY c.run_id, c.cell_id) AS place,
    c.* EXCLUDE (whole),
    c.trials > 0 AND row_number() OVER (
        PARTITION BY c.cell_id, c.trials > 0
        ORDER BY coalesce(c.started_at, c.submitted_at) DESC NULLS LAST, c.trials DESC, c.run_id
    ) = 1 AS latest,
    s.recipe_json,
    coalesce(
        known(c.model_digest), concat_ws('|', c.origin, c.model, CASE WHEN c.random_weights THEN 'random' ELSE '' END)
    ) AS model_key,
    CASE
        WHEN known(c.weights) IS NOT NULL
            THEN
                concat_ws(
                    '|', c.weights, coalesce(c.activations, '?'), coalesce(c.kv, '?'), coalesce(c.method, '?'),
                    CASE WHEN NOT c.whole THEN c.origin END, CASE WHEN NOT c.whole THEN c.recipe END
                )
    END AS recipe_key,
    CASE
        WHEN c.tp IS NOT NULL AND c.pp IS NOT NULL AND c.dp IS NOT NULL THEN concat_ws('|', c.tp, c.pp, c.dp)
        WHEN c.gpus IS NOT NULL THEN concat_ws('|', c.origin, c.gpus)
    END AS parallel_key,
    CASE
        WHEN coalesce(c.batch, c.rate_per_s) IS NOT NULL AND c.context_tok IS NOT NULL AND c.output_tok IS NOT NULL
            THEN
                concat_ws(
                    '|', coalesce(CAST(c.batch AS VARCHAR), 'open'), coalesce(CAST(c.rate_per_s AS VARCHAR), 'closed'),
                    CASE WHEN c.rate_per_s IS NOT NULL THEN s.arrivals END, c.context_tok, c.output_tok, c.conditions
                )
    END AS load_key,
    CASE
        WHEN c.context_tok IS NOT NULL AND c.output_tok IS NOT NULL THEN concat_ws('|', c.context_tok, c.output_tok)
    END AS shape_key,
    split_part(known(c.engine_version), '+', 1) AS release
FROM judged AS c
LEFT JOIN specs AS s ON c.run_id = s.run_id AND c.recipe = s.recipe
