-- Row: one submission of a run, as version 1 of the schema had it, in today's columns: all were measured by fleetbench.
-- Key: run_id, submitted_at.
-- Units: counts; times in UTC.
SELECT
    *,
    'fleetbench' AS origin,
    CAST(NULL AS VARCHAR) AS source,
    CAST(NULL AS VARCHAR) AS source_sha256,
    CAST(NULL AS VARCHAR) AS licence,
    CAST(NULL AS VARCHAR []) AS unmapped
FROM landed.runs_v1
