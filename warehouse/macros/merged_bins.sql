-- Merges sketches: every column of `t` but `sketch` is what they are grouped by.
-- Row: a bin of a merged sketch: values near `value`, of which there are `n`.
-- Key: the columns of t, bin; bin is NULL for values that are exactly 0.
-- Units: value is in the unit of the sketch (ms), within 1 % of what it stands for; n is a count.
-- t has a column `sketch` and any others, none of them called bin, value, n, whole, place, least or most:
--   WITH mine AS (SELECT hardware, recipe, itl_sketch AS sketch FROM sketches WHERE batch = 64)
--   FROM merged_bins(mine)
-- Sketches of another accuracy (gamma) have other bins: that is an error, not a sum. Groups are told apart by a hash of
-- 64 bits while millions of bins are summed, for that takes half as long as comparing their columns.
CREATE OR REPLACE MACRO merged_bins(t) AS TABLE
WITH sketched AS MATERIALIZED (  -- for a sketch is read from its file whole, whatever part of it is asked for
    SELECT
        *,
        hash(*COLUMNS(* EXCLUDE (sketch))) AS place
    FROM (SELECT TRUE AS whole, * FROM query_table(t))
    WHERE sketch IS NOT NULL
),

bins AS (
    SELECT
        place,
        unnest(CASE WHEN sketch.zero > 0 THEN list_prepend(NULL, sketch.bins) ELSE sketch.bins END) AS bin,
        unnest(CASE WHEN sketch.zero > 0 THEN list_prepend(sketch.zero, sketch.counts) ELSE sketch.counts END) AS n
    FROM sketched
),

summed AS (SELECT place, bin, CAST(sum(n) AS BIGINT) AS n FROM bins GROUP BY place, bin),

places AS (
    SELECT * EXCLUDE (sketch), min(sketch.gamma) AS least, max(sketch.gamma) AS most FROM sketched GROUP BY ALL
),

of_one_width AS (
    SELECT
        * EXCLUDE (least, most),
        CASE
            WHEN min(least) OVER () = max(most) OVER () THEN least
            ELSE error('sketches of different accuracy (gamma) do not merge')
        END AS gamma
    FROM places
)

SELECT
    of_one_width.* EXCLUDE (place, whole, gamma),
    summed.bin,
    CASE WHEN summed.bin IS NULL THEN 0.0 ELSE 2 * gamma ** summed.bin / (gamma + 1) END AS value,
    summed.n
FROM summed
INNER JOIN of_one_width ON summed.place = of_one_width.place
