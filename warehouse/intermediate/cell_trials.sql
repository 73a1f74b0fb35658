-- Row: what the trials of a cell came to, the control left out.
-- Key: run_id, cell_id.
-- A number is the median of the good trials (trials of them). Of a latency n is summed, the mean is pooled by n (where
-- a trial does not say n, the mean of the means), and a quantile is the median of the trials' own; p99 of those that
-- have it: fleetbench's have none below 100 samples. *_spread_ratio is (max - min) / median, NULL below two; that of a
-- latency is over the trials' means. tokens_per_arrival: tokens after the first over arrivals after the first.
-- net_j_per_tok: energy less idle_power_w over the window, an output token.
-- outcome is ok where every trial is, else the worst one's; trials counts the good ones.
-- Units: _tok_s tokens a second, _ms milliseconds, _j_per_tok joules an output token, _w watts.
WITH judged AS (
    SELECT
        *,
        CASE
            WHEN outcome = 'ok' AND valid THEN 0
            WHEN outcome IN ('ok', 'invalid', 'not_applied') THEN 2
            WHEN outcome IN ('lost', 'cancelled') THEN 1
            ELSE 3
        END AS badness,
        energy_j_per_tok - idle_power_w / nullif(output_tok_s, 0) AS net_j_per_tok,
        energy_j_per_tok * output_tok_s / nullif(total_tok_s, 0) AS energy_j_per_total_tok
    FROM trials
    WHERE role = 'measure'
),

tried AS (
    SELECT
        run_id,
        cell_id,
        arg_max(trial_id, (badness, repeat)) AS worst_trial_id,
        count(*) FILTER (badness = 0) AS trials,
        count(*) FILTER (badness > 0) AS trials_not_ok,
        max(badness) AS badness,
        min(started_at) AS started_at,
        arg_max(power_status, repeat) AS power_status
    FROM judged
    GROUP BY run_id, cell_id
),

good AS (
    SELECT
        run_id,
        cell_id,
        median(output_tok_s) AS output_tok_s,
        spread_ratio(output_tok_s) AS output_tok_s_spread_ratio,
        min(output_tok_s) AS output_tok_s_min,
        max(output_tok_s) AS output_tok_s_max,
        median(total_tok_s) AS total_tok_s,
        median(requests_per_s) AS requests_per_s,
        median(prefill_tok_s) AS prefill_tok_s,
        median(decode_tok_s) AS decode_tok_s,
        median(user_tok_s_p50) AS user_tok_s_p50,
        median(concurrency) AS concurrency,
        min(slo) AS slo,
        median(goodput_per_s) AS goodput_per_s,
        median(goodput_ratio) AS goodput_ratio,
        min(tokens_from) AS tokens_from,
        median(itl_n / nullif(gap_n, 0)) AS tokens_per_arrival,
        median(merged_ratio) AS merged_ratio,
        CAST(sum(ttft_n) AS BIGINT) AS ttft_n,
        pooled_mean(ttft_mean_ms, ttft_n) AS ttft_mean_ms,
        median(ttft_p50_ms) AS ttft_p50_ms,
        median(ttft_p90_ms) AS ttft_p90_ms,
        median(ttft_p99_ms) AS ttft_p99_ms,
        CAST(sum(itl_n) AS BIGINT) AS itl_n,
        pooled_mean(itl_mean_ms, itl_n) AS itl_mean_ms,
        median(itl_p50_ms) AS itl_p50_ms,
        median(itl_p90_ms) AS itl_p90_ms,
        median(itl_p99_ms) AS itl_p99_ms,
        CAST(sum(tpot_n) AS BIGINT) AS tpot_n,
        pooled_mean(tpot_mean_ms, tpot_n) AS tpot_mean_ms,
        median(tpot_p50_ms) AS tpot_p50_ms,
        median(tpot_p90_ms) AS tpot_p90_ms,
        median(tpot_p99_ms) AS tpot_p99_ms,
        CAST(sum(e2e_n) AS BIGINT) AS e2e_n,
        pooled_mean(e2e_mean_ms, e2e_n) AS e2e_mean_ms,
        median(e2e_p50_ms) AS e2e_p50_ms,
        median(e2e_p90_ms) AS e2e_p90_ms,
        median(e2e_p99_ms) AS e2e_p99_ms,
        spread_ratio(ttft_mean_ms) AS ttft_mean_ms_spread_ratio,
        spread_ratio(itl_mean_ms) AS itl_mean_ms_spread_ratio,
        median(ttft_floor_ms) AS ttft_floor_ms,
        median(itl_floor_ms) AS itl_floor_ms,
        median(energy_j_per_tok) AS energy_j_per_tok,
        count(energy_j_per_tok) AS energy_n,
        spread_ratio(energy_j_per_tok) AS energy_spread_ratio,
        median(energy_j_per_total_tok) AS energy_j_per_total_tok,
        median(net_j_per_tok) AS net_j_per_tok,
        count(net_j_per_tok) AS net_n,
        spread_ratio(net_j_per_tok) AS net_spread_ratio,
        median(idle_power_w) AS idle_power_w,
        median(power_mean_w) AS power_mean_w
    FROM judged
    WHERE badness = 0
    GROUP BY run_id, cell_id
)

SELECT *
FROM tried
LEFT JOIN good USING (run_id, cell_id)
