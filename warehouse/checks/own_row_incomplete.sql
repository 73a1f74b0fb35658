-- Must be empty: a trial that fleetbench measured and that lacks what only an imported result may lack; missing lists
-- it. Of a server that was measured as it is (hardware unknown) nobody knows how many devices it has.
SELECT
    t.run_id,
    t.trial_id,
    list_filter(
        [
            CASE WHEN t.model_digest IS NULL THEN 'model_digest' END,
            CASE WHEN t.weights IS NULL THEN 'weights' END,
            CASE WHEN t.activations IS NULL THEN 'activations' END,
            CASE WHEN t.kv_k IS NULL THEN 'kv_k' END,
            CASE WHEN t.kv_v IS NULL THEN 'kv_v' END,
            CASE WHEN t.scheme IS NULL THEN 'scheme' END,
            CASE WHEN t.method IS NULL THEN 'method' END,
            CASE WHEN t.artifact_id IS NULL THEN 'artifact_id' END,
            CASE WHEN t.engine_version IS NULL THEN 'engine_version' END,
            CASE WHEN t.hardware <> 'unknown' AND t.gpus IS NULL THEN 'gpus' END,
            CASE WHEN t.hardware <> 'unknown' AND t.tp IS NULL THEN 'tp' END,
            CASE WHEN t.hardware <> 'unknown' AND t.pp IS NULL THEN 'pp' END,
            CASE WHEN t.hardware <> 'unknown' AND t.dp IS NULL THEN 'dp' END,
            CASE WHEN t.launch_id IS NULL THEN 'launch_id' END,
            CASE WHEN t.launch_attempt IS NULL THEN 'launch_attempt' END,
            CASE WHEN t.seed IS NULL THEN 'seed' END,
            CASE WHEN t.node IS NULL THEN 'node' END,
            CASE WHEN t.started_at IS NULL THEN 'started_at' END
        ],
        lambda word : word IS NOT NULL
    ) AS missing
FROM trials AS t
INNER JOIN runs AS r ON t.run_id = r.run_id
WHERE r.origin = 'fleetbench' AND len(missing) > 0
