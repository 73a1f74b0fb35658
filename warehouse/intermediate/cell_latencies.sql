-- Row: the latencies of a cell, pooled over the requests of its good trials.
-- Key: run_id, cell_id.
-- Units: ms; quantiles are exact, linear between samples; p99 is NULL below 100 samples.
WITH of_requests AS (
    SELECT
        run_id,
        cell_id,
        count(ttft_ms) AS ttft_n,
        avg(ttft_ms) AS ttft_mean_ms,
        quantile_cont(ttft_ms, [0.5, 0.9, 0.99]) AS ttft,
        count(tpot_ms) AS tpot_n,
        avg(tpot_ms) AS tpot_mean_ms,
        quantile_cont(tpot_ms, [0.5, 0.9, 0.99]) AS tpot,
        count(e2e_ms) AS e2e_n,
        avg(e2e_ms) AS e2e_mean_ms,
        quantile_cont(e2e_ms, [0.5, 0.9, 0.99]) AS e2e
    FROM request_latencies
    GROUP BY run_id, cell_id
),

of_gaps AS (
    SELECT
        run_id,
        cell_id,
        count(ms) AS itl_n,
        avg(ms) AS itl_mean_ms,
        quantile_cont(ms, [0.5, 0.9, 0.99]) AS itl
    FROM (SELECT run_id, cell_id, unnest(itl_ms) AS ms FROM request_latencies)
    GROUP BY run_id, cell_id
)

SELECT
    run_id,
    cell_id,
    ttft_n,
    ttft_mean_ms,
    ttft[1] AS ttft_p50_ms,
    ttft[2] AS ttft_p90_ms,
    CASE WHEN ttft_n >= 100 THEN ttft[3] END AS ttft_p99_ms,
    coalesce(itl_n, 0) AS itl_n,
    itl_mean_ms,
    itl[1] AS itl_p50_ms,
    itl[2] AS itl_p90_ms,
    CASE WHEN itl_n >= 100 THEN itl[3] END AS itl_p99_ms,
    tpot_n,
    tpot_mean_ms,
    tpot[1] AS tpot_p50_ms,
    tpot[2] AS tpot_p90_ms,
    CASE WHEN tpot_n >= 100 THEN tpot[3] END AS tpot_p99_ms,
    e2e_n,
    e2e_mean_ms,
    e2e[1] AS e2e_p50_ms,
    e2e[2] AS e2e_p90_ms,
    CASE WHEN e2e_n >= 100 THEN e2e[3] END AS e2e_p99_ms
FROM of_requests
LEFT JOIN of_gaps USING (run_id, cell_id)
