-- Must be empty: a trial of our own whose p50 is above its p90, or that above its p99. Imported ones are as their
-- files have them.
SELECT t.run_id, t.trial_id
FROM trials AS t
INNER JOIN runs AS r USING (run_id)
WHERE
    r.origin = 'fleetbench'
    AND (
        t.ttft_p50_ms > t.ttft_p90_ms OR t.ttft_p90_ms > t.ttft_p99_ms
        OR t.itl_p50_ms > t.itl_p90_ms OR t.itl_p90_ms > t.itl_p99_ms
        OR t.tpot_p50_ms > t.tpot_p90_ms OR t.tpot_p90_ms > t.tpot_p99_ms
        OR t.e2e_p50_ms > t.e2e_p90_ms OR t.e2e_p90_ms > t.e2e_p99_ms
    )
