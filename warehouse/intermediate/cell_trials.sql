-- Row: what the trials of a cell came to, the control left out.
-- Key: run_id, cell_id.
-- A number is the median of the good trials; *_spread_ratio is (max - min) / median, NULL below two; that of
-- a latency is over the trials' means.
-- outcome is ok where every trial is, else the worst one's; trials counts the good ones.
WITH numbers AS (
    SELECT
        *,
        CASE
            WHEN outcome = 'ok' AND valid THEN 0
            WHEN outcome IN ('ok', 'invalid', 'not_applied') THEN 2
            WHEN outcome IN ('lost', 'cancelled') THEN 1
            ELSE 3
        END AS badness
    FROM trials
    WHERE role = 'measure'
)

SELECT
    run_id,
    cell_id,
    arg_max(trial_id, (badness, repeat)) AS worst_trial_id,
    count(*) FILTER (badness = 0) AS trials,
    count(*) FILTER (badness > 0) AS trials_not_ok,
    max(badness) AS badness,
    median(output_tok_s) FILTER (badness = 0) AS output_tok_s,
    CASE
        WHEN count(output_tok_s) FILTER (badness = 0) > 1
            THEN
                (max(output_tok_s) FILTER (badness = 0) - min(output_tok_s) FILTER (badness = 0))
                / nullif(median(output_tok_s) FILTER (badness = 0), 0)
    END AS output_tok_s_spread_ratio,
    min(output_tok_s) FILTER (badness = 0) AS output_tok_s_min,
    max(output_tok_s) FILTER (badness = 0) AS output_tok_s_max,
    median(ttft_floor_ms) FILTER (badness = 0) AS ttft_floor_ms,
    median(itl_floor_ms) FILTER (badness = 0) AS itl_floor_ms,
    median(total_tok_s) FILTER (badness = 0) AS total_tok_s,
    median(requests_per_s) FILTER (badness = 0) AS requests_per_s,
    median(prefill_tok_s) FILTER (badness = 0) AS prefill_tok_s,
    median(decode_tok_s) FILTER (badness = 0) AS decode_tok_s,
    CASE
        WHEN count(ttft_mean_ms) FILTER (badness = 0) > 1
            THEN
                (max(ttft_mean_ms) FILTER (badness = 0) - min(ttft_mean_ms) FILTER (badness = 0))
                / nullif(median(ttft_mean_ms) FILTER (badness = 0), 0)
    END AS ttft_mean_ms_spread_ratio,
    CASE
        WHEN count(itl_mean_ms) FILTER (badness = 0) > 1
            THEN
                (max(itl_mean_ms) FILTER (badness = 0) - min(itl_mean_ms) FILTER (badness = 0))
                / nullif(median(itl_mean_ms) FILTER (badness = 0), 0)
    END AS itl_mean_ms_spread_ratio,
    median(energy_j_per_tok) FILTER (badness = 0) AS energy_j_per_tok,
    count(energy_j_per_tok) FILTER (badness = 0) AS energy_n,
    CASE
        WHEN count(energy_j_per_tok) FILTER (badness = 0) > 1
            THEN
                (max(energy_j_per_tok) FILTER (badness = 0) - min(energy_j_per_tok) FILTER (badness = 0))
                / nullif(median(energy_j_per_tok) FILTER (badness = 0), 0)
    END AS energy_spread_ratio,
    median(power_mean_w) FILTER (badness = 0) AS power_mean_w,
    arg_max(power_status, repeat) AS power_status
FROM numbers
GROUP BY run_id, cell_id
