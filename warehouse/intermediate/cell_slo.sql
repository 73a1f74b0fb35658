-- Row: a speed cell of which somebody asked that it keeps to latencies (SLO).
-- Key: run_id, cell_id.
-- Units: slo in ms: 'ttft_p99:500,itl_p99:50' as the run's matrix asks of the 99th percentiles, or as `bench --slo`
-- asks of every request.
-- within: the percentiles (medians over the good trials) are no more than the targets; of a bench, at least 99 % of all
-- requests kept all of them. NULL where that is unknown, and unknown says why.
WITH asked AS (
    SELECT
        run_id,
        CAST(json_extract_string(matrix_json, '$.slo.ttft_p99_ms') AS DOUBLE) AS ttft_p99_ms,
        CAST(json_extract_string(matrix_json, '$.slo.itl_p99_ms') AS DOUBLE) AS itl_p99_ms
    FROM runs
    WHERE json_valid(matrix_json)
),

judged AS (
    SELECT
        c.place,
        c.run_id,
        c.cell_id,
        coalesce(
            c.slo,
            concat_ws(',', format('ttft_p99:{:g}', a.ttft_p99_ms), format('itl_p99:{:g}', a.itl_p99_ms))
        ) AS slo,
        CASE
            WHEN c.trials = 0 THEN NULL
            WHEN c.slo IS NOT NULL THEN c.goodput_ratio >= 0.99
            WHEN c.ttft_p99_ms > a.ttft_p99_ms OR c.itl_p99_ms > a.itl_p99_ms THEN FALSE
            WHEN
                (a.ttft_p99_ms IS NULL OR c.ttft_p99_ms IS NOT NULL)
                AND (a.itl_p99_ms IS NULL OR c.itl_p99_ms IS NOT NULL)
                THEN TRUE
        END AS within
    FROM speed_cells AS c
    INNER JOIN asked AS a ON c.run_id = a.run_id
    WHERE c.slo IS NOT NULL OR a.ttft_p99_ms IS NOT NULL OR a.itl_p99_ms IS NOT NULL
)

SELECT
    *,
    CASE WHEN within IS NULL THEN 'too few samples for a p99, or no good trial' END AS unknown
FROM judged
