-- Row: what making a checkpoint cost, by the recipe and hardware that it was made for in a run.
-- Key: run_id, artifact_id, recipe, hardware.
-- Units: _s seconds, bytes; size_ratio: over the checkpoint of the run's reference recipe of the same model.
-- Medians over n makings (one a node), spread beside: lowest and highest. Checkpoints that were in the cache cost
-- nothing and are left out: n_left_out starts of the run read this one without making it. recipe and hardware are NULL
-- where no start of the run used it.
WITH made AS (
    SELECT
        run_id, artifact_id, model, model_digest, checkpoint, weights, activations, scheme, method, group_size,
        calibration_sha256, protect,
        count(*) AS n,
        median(build_s) AS build_s,
        min(build_s) AS build_s_min,
        max(build_s) AS build_s_max,
        spread_ratio(build_s) AS build_s_spread_ratio,
        max(bytes) AS bytes,
        max(peak_rss_bytes) AS peak_rss_bytes,
        max(made_at) AS made_at,
        any_value(tool) AS tool
    FROM artifacts
    GROUP BY ALL
),

used AS (
    SELECT
        run_id, artifact_id, recipe, hardware,
        count(*) FILTER (artifact_s IS NULL) AS n_left_out
    FROM launches
    GROUP BY ALL
),

reference_sizes AS (
    SELECT run_id, model, max(artifact_bytes) AS reference_bytes FROM launches WHERE reference GROUP BY ALL
)

SELECT
    m.run_id, r.last_submitted_at AS submitted_at, r.origin, m.* EXCLUDE (run_id), u.recipe, u.hardware,
    coalesce(u.n_left_out, 0) AS n_left_out,
    m.bytes / nullif(s.reference_bytes, 0) AS size_ratio
FROM made AS m
LEFT JOIN used AS u ON m.run_id = u.run_id AND m.artifact_id = u.artifact_id
LEFT JOIN reference_sizes AS s ON m.run_id = s.run_id AND m.model = s.model
LEFT JOIN runs AS r ON m.run_id = r.run_id
