-- Row: one trial, by the attempt that counts: best outcome, then the last; its sketches are in trial_sketches.
-- Key: run_id, trial_id.
-- Units: _s seconds, _ms milliseconds, _tok_s tokens a second, _j joules, _w watts.
SELECT * EXCLUDE (quality, ttft_sketch, itl_sketch)
FROM attempts
QUALIFY row_number() OVER (
    PARTITION BY run_id, trial_id ORDER BY quality, attempt DESC, started_at DESC
) = 1
