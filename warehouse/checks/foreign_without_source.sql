-- Must be empty: an imported run that does not say which file it is from, or one of our own that says it is.
SELECT run_id, origin, source, source_sha256
FROM runs
WHERE
    CASE
        WHEN origin = 'fleetbench' THEN source IS NOT NULL OR source_sha256 IS NOT NULL
        ELSE source IS NULL OR source_sha256 IS NULL
    END
