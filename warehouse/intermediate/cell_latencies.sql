-- Row: the latencies of a cell, pooled over the requests of its good trials.
-- Key: run_id, cell_id.
-- Units: ms; quantiles are exact, linear between samples; p99 is NULL below 100 samples.
WITH samples AS (
    SELECT run_id, cell_id, 'ttft' AS what, ttft_ms AS ms FROM request_latencies
    UNION ALL
    SELECT run_id, cell_id, 'tpot', tpot_ms FROM request_latencies
    UNION ALL
    SELECT run_id, cell_id, 'e2e', e2e_ms FROM request_latencies
    UNION ALL
    SELECT run_id, cell_id, 'itl', unnest(itl_ms) FROM request_latencies
),

stats AS (
    SELECT
        run_id,
        cell_id,
        what,
        count(ms) AS n,
        avg(ms) AS mean,
        quantile_cont(ms, 0.5) AS p50,
        quantile_cont(ms, 0.9) AS p90,
        CASE WHEN count(ms) >= 100 THEN quantile_cont(ms, 0.99) END AS p99
    FROM samples
    GROUP BY run_id, cell_id, what
)

SELECT
    run_id,
    cell_id,
    coalesce(max(n) FILTER (what = 'ttft'), 0) AS ttft_n,
    max(mean) FILTER (what = 'ttft') AS ttft_mean_ms,
    max(p50) FILTER (what = 'ttft') AS ttft_p50_ms,
    max(p90) FILTER (what = 'ttft') AS ttft_p90_ms,
    max(p99) FILTER (what = 'ttft') AS ttft_p99_ms,
    coalesce(max(n) FILTER (what = 'itl'), 0) AS itl_n,
    max(mean) FILTER (what = 'itl') AS itl_mean_ms,
    max(p50) FILTER (what = 'itl') AS itl_p50_ms,
    max(p90) FILTER (what = 'itl') AS itl_p90_ms,
    max(p99) FILTER (what = 'itl') AS itl_p99_ms,
    coalesce(max(n) FILTER (what = 'tpot'), 0) AS tpot_n,
    max(mean) FILTER (what = 'tpot') AS tpot_mean_ms,
    max(p50) FILTER (what = 'tpot') AS tpot_p50_ms,
    max(p90) FILTER (what = 'tpot') AS tpot_p90_ms,
    max(p99) FILTER (what = 'tpot') AS tpot_p99_ms,
    coalesce(max(n) FILTER (what = 'e2e'), 0) AS e2e_n,
    max(mean) FILTER (what = 'e2e') AS e2e_mean_ms,
    max(p50) FILTER (what = 'e2e') AS e2e_p50_ms,
    max(p90) FILTER (what = 'e2e') AS e2e_p90_ms,
    max(p99) FILTER (what = 'e2e') AS e2e_p99_ms
FROM stats
GROUP BY run_id, cell_id
