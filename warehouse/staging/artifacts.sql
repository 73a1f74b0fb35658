-- Row: one checkpoint that was made, and what making it cost; one that was found in the cache has no row.
-- Key: artifact_id, node, made_at.
-- Units: _s seconds, _bytes bytes.
SELECT DISTINCT * FROM landed.artifacts
