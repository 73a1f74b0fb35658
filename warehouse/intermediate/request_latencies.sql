-- Row: one measured request of a good trial that was answered whole.
-- Key: run_id, trial_id, request.
-- Units: ms. itl_ms is a list: every gap between chunks shared evenly among the tokens that it brought, one
-- value a token; where the tokens of a chunk are unknown, the server's count spread over the chunks. The same
-- definitions as fleetbench_collectors.load.latency, which fills the columns of trials; a test compares them.
WITH shared AS (
    SELECT
        t.run_id,
        t.cell_id,
        r.* EXCLUDE (run_id),
        CASE
            WHEN len(r.chunk_tok) = len(r.gaps_us) + 1 THEN r.chunk_tok[2:]
            WHEN r.output_tok > len(r.gaps_us)
                THEN
                    list_transform(
                        range(1, len(r.gaps_us) + 1),
                        lambda i : (i + 1) * r.output_tok // (len(r.gaps_us) + 1)
                        - i * r.output_tok // (len(r.gaps_us) + 1)
                    )
            ELSE list_transform(r.gaps_us, lambda gap : 1)
        END AS shares
    FROM requests AS r
    INNER JOIN good_trials AS t USING (run_id, trial_id, attempt)
    WHERE r.phase = 'measure' AND r.outcome = 'ok'
)

SELECT
    run_id,
    cell_id,
    trial_id,
    request,
    (first_token_ns - start_ns) / 1e6 AS ttft_ms,
    CASE WHEN output_tok > 1 AND len(gaps_us) > 0 THEN (last_token_ns - first_token_ns) / 1e6 / (output_tok - 1) END AS tpot_ms,
    (last_token_ns - start_ns) / 1e6 AS e2e_ms,
    flatten(
        list_transform(
            list_zip(gaps_us, shares),
            lambda pair : list_transform(range(pair[2]), lambda i : pair[1] / 1e3 / pair[2])
        )
    ) AS itl_ms
FROM shared
