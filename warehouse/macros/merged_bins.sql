-- Merges sketches: every column of `t` but `sketch` is what they are grouped by.
-- Row: a bin of a merged sketch: values near `value`, of which there are `n`.
-- Key: the columns of t, bin; bin is NULL for values that are exactly 0.
-- Units: value is in the unit of the sketch (ms), within 1 % of what it stands for; n is a count.
-- t has a column `sketch` and any others, none of them called bin, value, n, whole or place:
--   WITH mine AS (SELECT hardware, recipe, itl_sketch AS sketch FROM sketches WHERE batch = 64)
--   FROM merged_bins(mine)
-- Sketches of another accuracy (gamma) have other bins: that is an error, not a sum. Groups are told apart by a hash of
-- 64 bits while millions of bins are summed, for that takes half as long as comparing their columns.
CREATE OR REPLACE MACRO merged_bins(t) AS TABLE
WITH sketched AS NOT MATERIALIZED (
    SELECT
        *,
        hash(*COLUMNS(* EXCLUDE (sketch))) AS place
    FROM (SELECT TRUE AS whole, * FROM query_table(t))
),

width AS (
    SELECT
        CASE
            WHEN min(sketch.gamma) = max(sketch.gamma) THEN min(sketch.gamma)
            WHEN count(sketch.gamma) > 0 THEN error('sketches of different accuracy (gamma) do not merge')
        END AS gamma
    FROM sketched
),

bins AS (
    SELECT place, unnest(sketch.bins) AS bin, unnest(sketch.counts) AS n FROM sketched
    UNION ALL
    SELECT place, NULL AS bin, sketch.zero AS n FROM sketched WHERE sketch.zero > 0
),

summed AS (SELECT place, bin, CAST(sum(n) AS BIGINT) AS n FROM bins GROUP BY place, bin)

SELECT
    places.* EXCLUDE (place, whole),
    summed.bin,
    CASE WHEN summed.bin IS NULL THEN 0.0 ELSE 2 * width.gamma ** summed.bin / (width.gamma + 1) END AS value,
    summed.n
FROM summed
INNER JOIN (SELECT DISTINCT * EXCLUDE (sketch) FROM sketched) AS places ON summed.place = places.place
CROSS JOIN width
