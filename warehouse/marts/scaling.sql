-- Row: a good speed cell along one axis (batch, context or tp), beside the smallest measured on it, all else of the run
-- equal.
-- Key: run_id, axis, cell_id.
-- Units: throughput_ratio is output tok/s over that of the smallest; efficiency_ratio that over the ideal: over the
-- factor that the axis grew by for batch and tp, over 1 for context (a longer prompt costs nothing at best).
-- low and high: slowest trial over the smallest's fastest, and the other way round; NULL where either has fewer than
-- two. n is the cells of the axis that were measured, n_left_out those that were not, and left_out says what became of
-- them; where the smallest one asked for is among them, smallest_asked is below smallest. Cells of unknown length or
-- release have no row, nor has an axis with one value.
WITH axes AS (
    SELECT
        s.place, s.cell_id, s.trials, s.outcome, s.output_tok_s, s.output_tok_s_min, s.output_tok_s_max,
        a.axis,
        CASE a.axis WHEN 'batch' THEN s.batch WHEN 'context' THEN s.context_tok ELSE s.tp END AS value,
        hash(
            run_id, model_key, recipe, kv, engine, engine_version, hardware, pp, dp, rate_per_s, output_tok, seed, axis,
            CASE WHEN axis <> 'batch' THEN batch END,
            CASE WHEN axis <> 'context' THEN context_tok END,
            CASE WHEN axis <> 'tp' THEN tp END
        ) AS series  -- 64 bits in place of sixteen columns, to group by
    FROM speed_cells AS s
    CROSS JOIN (VALUES ('batch'), ('context'), ('tp')) AS a (axis)
    WHERE s.release IS NOT NULL AND s.shape_key IS NOT NULL
),

smallest_cells AS (
    SELECT
        series,
        min(value) AS smallest_asked,
        min(value) FILTER (trials > 0) AS value,
        arg_min(place, value) FILTER (trials > 0) AS place,
        count(*) FILTER (trials > 0) AS n,
        count(*) FILTER (trials = 0) AS n_left_out
    FROM axes
    WHERE value IS NOT NULL
    GROUP BY series
    HAVING min(value) < max(value)
),

lacking AS (SELECT series, left_out(outcome) AS left_out FROM axes WHERE trials = 0 GROUP BY series)

SELECT
    c.run_id, c.cell_id, c.origin, c.submitted_at, c.model, c.random_weights, c.recipe, c.weights, c.kv,
    c.engine, c.engine_version, c.hardware, c.gpus, c.tp, c.pp, c.dp, c.batch, c.rate_per_s, c.context_tok, c.output_tok,
    a.axis, a.value, k.value AS smallest, k.smallest_asked, b.cell_id AS smallest_cell_id,
    c.trials, b.trials AS smallest_trials, c.output_tok_s, b.output_tok_s AS smallest_tok_s,
    c.output_tok_s / nullif(b.output_tok_s, 0) AS throughput_ratio,
    CASE
        WHEN least(c.trials, b.trials) >= 2 THEN c.output_tok_s_min / nullif(b.output_tok_s_max, 0)
    END AS throughput_low_ratio,
    CASE
        WHEN least(c.trials, b.trials) >= 2 THEN c.output_tok_s_max / nullif(b.output_tok_s_min, 0)
    END AS throughput_high_ratio,
    c.output_tok_s / nullif(b.output_tok_s, 0)
    / CASE WHEN a.axis = 'context' THEN 1 ELSE a.value / k.value END AS efficiency_ratio,
    k.n, k.n_left_out, l.left_out
FROM axes AS a
INNER JOIN smallest_cells AS k ON a.series = k.series
INNER JOIN speed_cells AS c ON a.place = c.place
INNER JOIN speed_cells AS b ON k.place = b.place
LEFT JOIN lacking AS l ON a.series = l.series
WHERE a.trials > 0 AND a.value IS NOT NULL
