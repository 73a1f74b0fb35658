-- Must be empty: a trial whose p50 is above its p90, or that above its p99.
SELECT run_id, trial_id
FROM trials
WHERE
    ttft_p50_ms > ttft_p90_ms OR ttft_p90_ms > ttft_p99_ms
    OR itl_p50_ms > itl_p90_ms OR itl_p90_ms > itl_p99_ms
    OR tpot_p50_ms > tpot_p90_ms OR tpot_p90_ms > tpot_p99_ms
    OR e2e_p50_ms > e2e_p90_ms OR e2e_p90_ms > e2e_p99_ms
