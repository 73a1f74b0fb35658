-- Row: one kind of hardware against another over all work that both did: one model, recipe and engine.
-- Key: hardware, other_hardware, model, random_weights, recipe, engine, gpus, tp, pp, dp, origin, other_origin, run_id,
-- other_run_id.
-- Units: ratios of this one over the other at the same load: of output tok/s (speed), of mean TTFT and of mean TPOT.
-- *_geomean_ratio: the geometric mean over n pairs of cells (ttft_n, tpot_n); spread of the speed: lowest, highest and
-- the geometric standard deviation.
-- n_left_out good cells of this run, model, recipe and hardware have no speed_ratio, and left_out says of how many that
-- is because a later cell stands for them, or recipe, parallelism, load or release is unknown; because the other did
-- not the same; or because no rate is stored.
WITH pairs AS (
    SELECT
        run_id, other_run_id, any_value(submitted_at) AS submitted_at,
        any_value(other_submitted_at) AS other_submitted_at,
        origin, other_origin, model, random_weights, recipe, engine, hardware, other_hardware, gpus, tp, pp, dp,
        count(*) AS found,
        count(speed_ratio) AS n,
        geomean(speed_ratio) AS speed_geomean_ratio,
        min(speed_ratio) AS speed_lowest_ratio,
        max(speed_ratio) AS speed_highest_ratio,
        geometric_sd(speed_ratio) AS speed_geometric_sd,
        count(ttft_mean_ratio) AS ttft_n,
        geomean(ttft_mean_ratio) AS ttft_geomean_ratio,
        count(tpot_mean_ratio) AS tpot_n,
        geomean(tpot_mean_ratio) AS tpot_geomean_ratio
    FROM cmp_hardware
    GROUP BY ALL
),

good AS (
    SELECT
        s.run_id, s.model, s.random_weights, s.recipe, s.engine, s.hardware, s.gpus, s.tp, s.pp, s.dp,
        count(*) AS cells,
        count(l.cell_id) AS latest
    FROM speed_cells AS s
    LEFT JOIN latest_cells AS l ON s.run_id = l.run_id AND s.cell_id = l.cell_id
    WHERE s.trials > 0
    GROUP BY ALL
)

SELECT
    p.* EXCLUDE (found),
    g.cells - p.n AS n_left_out,
    nullif(
        concat_ws(
            '; ',
            CASE WHEN g.cells > g.latest THEN format('superseded or not fully known ({})', g.cells - g.latest) END,
            CASE WHEN g.latest > p.found THEN format('no partner at the same load ({})', g.latest - p.found) END,
            CASE WHEN p.found > p.n THEN format('no rate is stored ({})', p.found - p.n) END
        ),
        ''
    ) AS left_out
FROM pairs AS p
INNER JOIN good AS g
    ON
        p.run_id = g.run_id
        AND p.model = g.model
        AND p.random_weights = g.random_weights
        AND p.recipe = g.recipe
        AND p.engine = g.engine
        AND p.hardware = g.hardware
        AND p.gpus IS NOT DISTINCT FROM g.gpus
        AND p.tp IS NOT DISTINCT FROM g.tp
        AND p.pp IS NOT DISTINCT FROM g.pp
        AND p.dp IS NOT DISTINCT FROM g.dp
