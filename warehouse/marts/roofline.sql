-- Row: a good speed cell beside the least time that its hardware allows.
-- Key: run_id, cell_id.
-- Units: ms; ratios of that time over the measured mean, so 1 is the hardware's limit and small is room.
-- nearer: the phase that is nearer to its limit. A floor is NULL where the catalog has no figures of the hardware, the
-- format or the model; no_floor says so, and the row stays. Means over the good trials (trials), the spread of the
-- trials' means beside; trials_not_ok are left out.
SELECT
    run_id, cell_id, origin, submitted_at, model, random_weights, recipe, weights, kv, engine, engine_version,
    hardware, gpus, tp, pp, dp, batch, rate_per_s, context_tok, output_tok, trials, trials_not_ok,
    ttft_floor_ms, ttft_mean_ms, ttft_mean_ms_spread_ratio, ttft_roofline_ratio,
    itl_floor_ms, itl_mean_ms, itl_mean_ms_spread_ratio, itl_roofline_ratio,
    CASE
        WHEN ttft_roofline_ratio >= itl_roofline_ratio THEN 'prefill'
        WHEN ttft_roofline_ratio < itl_roofline_ratio THEN 'decode'
    END AS nearer,
    CASE
        WHEN ttft_floor_ms IS NULL AND itl_floor_ms IS NULL THEN 'no figures of ' || hardware || ' for this work'
    END AS no_floor
FROM speed_cells
WHERE trials > 0
