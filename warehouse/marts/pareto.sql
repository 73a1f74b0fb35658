-- Row: a good speed cell as a point: what a GPU gives against what one user sees.
-- Key: run_id, cell_id.
-- Units: tok_s_per_gpu output tokens a second and device (a CPU counts as one); tok_s_per_user 1 / median TPOT.
-- on_front: no other point of its group has more of one and no less of the other. A group is one model (its digest,
-- else origin and name), its weights random or not, and one load shape (context and output); in it are of equal cells
-- those measured last (latest), over all runs, hardware and recipes. on_front_of_run: the same within its run alone.
-- NULL, and why in left_out, where a point is in no group: then it bounds no other either. So are points whose recipe
-- is not shown to keep its quality (quality_verdict), unless they are asked for: SET VARIABLE unproven = true.
-- trials counts the good ones that a point is the median of; output_tok_s_spread_ratio is theirs.
WITH points AS (
    SELECT
        place, run_id, latest,
        hash(model_key, random_weights, shape_key) AS shape,  -- 64 bits, for numbers sort faster than names
        output_tok_s / devices(gpus) AS tok_s_per_gpu,
        coalesce(user_tok_s_p50, 1e3 / nullif(tpot_p50_ms, 0)) AS tok_s_per_user,
        CASE
            WHEN gpus IS NULL THEN 'the number of GPUs is unknown'
            WHEN output_tok_s IS NULL THEN 'no rate is stored'
            WHEN coalesce(user_tok_s_p50, tpot_p50_ms) IS NULL THEN 'no time per output token is stored'
            WHEN shape_key IS NULL THEN 'the load shape is unknown'
            ELSE unproven(quality_verdict)
        END AS left_out
    FROM speed_cells
    WHERE trials > 0
),

ranked AS (
    SELECT
        place, tok_s_per_gpu,
        max(tok_s_per_gpu) OVER (of_all GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS of_faster,
        max(tok_s_per_gpu) OVER (of_all GROUPS BETWEEN CURRENT ROW AND CURRENT ROW) AS of_as_fast,
        max(tok_s_per_gpu) OVER (of_run GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS of_faster_in_run,
        max(tok_s_per_gpu) OVER (of_run GROUPS BETWEEN CURRENT ROW AND CURRENT ROW) AS of_as_fast_in_run
    FROM points
    WHERE left_out IS NULL
    WINDOW
        of_all AS (PARTITION BY shape, latest ORDER BY tok_s_per_user DESC),
        of_run AS (PARTITION BY shape, run_id ORDER BY tok_s_per_user DESC)
)

SELECT
    c.run_id, c.cell_id, c.origin, c.submitted_at, c.model, c.random_weights, c.quality_verdict, c.recipe, c.weights, c.kv,
    c.engine, c.engine_version, c.hardware, c.gpus, c.tp, c.pp, c.dp,
    c.batch, c.rate_per_s, c.context_tok, c.output_tok,
    c.trials, c.trials_not_ok, c.output_tok_s, c.output_tok_s_spread_ratio, c.ttft_p50_ms, c.ttft_p99_ms,
    p.tok_s_per_gpu, p.tok_s_per_user, c.latest,
    c.latest AND r.tok_s_per_gpu = r.of_as_fast AND coalesce(r.tok_s_per_gpu > r.of_faster, TRUE) AS on_front,
    r.tok_s_per_gpu = r.of_as_fast_in_run AND coalesce(r.tok_s_per_gpu > r.of_faster_in_run, TRUE) AS on_front_of_run,
    coalesce(p.left_out, CASE WHEN NOT c.latest THEN 'a later run has the same cell' END) AS left_out
FROM points AS p
INNER JOIN speed_cells AS c ON p.place = c.place
LEFT JOIN ranked AS r ON p.place = r.place
