-- Row: starts of an engine with one recipe in one run, by what the weights were read from: from nothing to a first
-- token.
-- Key: run_id, model, random_weights, recipe, engine, engine_version, hardware, gpus, tp, pp, dp, storage.
-- Units: _s seconds, medians over n starts that went well; bytes of the checkpoint.
-- first_token_s is ready_s (process start to health) and cold_first_s; of ready_s: reading, loading beyond it,
-- compiling and warming up, each NULL where the engine does not say. staged_s is before the process starts. Spread:
-- lowest, highest and (max - min) / median of first_token_s. n_left_out starts failed: left_out says of what.
SELECT
    l.run_id, r.last_submitted_at AS submitted_at, r.origin, l.model, l.random_weights, l.recipe, l.reference,
    l.engine, l.engine_version, l.hardware, l.gpus, l.tp, l.pp, l.dp, l.storage,
    count(*) FILTER (l.outcome = 'ok') AS n,
    median(l.first_token_s) FILTER (l.outcome = 'ok') AS first_token_s,
    min(l.first_token_s) FILTER (l.outcome = 'ok') AS first_token_s_min,
    max(l.first_token_s) FILTER (l.outcome = 'ok') AS first_token_s_max,
    spread_ratio(CASE WHEN l.outcome = 'ok' THEN l.first_token_s END) AS first_token_s_spread_ratio,
    median(l.ready_s) FILTER (l.outcome = 'ok') AS ready_s,
    median(l.cold_read_s) FILTER (l.outcome = 'ok') AS cold_read_s,
    median(l.cold_load_s) FILTER (l.outcome = 'ok') AS cold_load_s,
    median(l.cold_compile_s) FILTER (l.outcome = 'ok') AS cold_compile_s,
    median(l.cold_first_s) FILTER (l.outcome = 'ok') AS cold_first_s,
    median(l.staged_s) FILTER (l.outcome = 'ok') AS staged_s,
    max(l.artifact_bytes) AS artifact_bytes,
    count(*) FILTER (l.outcome <> 'ok') AS n_left_out,
    left_out(CASE WHEN l.outcome <> 'ok' THEN coalesce(l.cause, l.outcome) END) AS left_out
FROM launches AS l
LEFT JOIN runs AS r ON l.run_id = r.run_id
GROUP BY ALL
