-- Quantiles over any grouping, out of the trials' sketches.
-- Row: one group of the rows of `t`: every column of t but `sketch` is what they are grouped by.
-- Key: the columns of t.
-- Units: n counts values; the quantiles are in the unit of the sketch (ms), at most 1 % off the value of
-- rank floor(q * (n - 1)). Nothing is left out but rows whose sketch is NULL.
-- One short query for any grouping:
--   WITH mine AS (SELECT hardware, recipe, itl_sketch AS sketch FROM sketches WHERE batch = 64)
--   FROM merged_quantiles(mine)
-- t has a column `sketch` and any others, none of them called bin, value, n, whole, place, upto or total.
CREATE OR REPLACE MACRO merged_quantiles(t) AS TABLE
WITH bins AS (
    SELECT
        *,
        hash(*COLUMNS(* EXCLUDE (bin, value, n))) AS place
    FROM (SELECT TRUE AS whole, * FROM merged_bins(t))
),

ranked AS (
    SELECT
        *,
        sum(n) OVER (PARTITION BY place ORDER BY bin NULLS FIRST) AS upto,
        sum(n) OVER (PARTITION BY place) AS total
    FROM bins
)

SELECT
    * EXCLUDE (whole, place, bin, value, n, upto, total),
    CAST(total AS BIGINT) AS n,
    min(value) FILTER (upto > floor(0.5 * (total - 1))) AS p50,
    min(value) FILTER (upto > floor(0.9 * (total - 1))) AS p90,
    min(value) FILTER (upto > floor(0.95 * (total - 1))) AS p95,
    min(value) FILTER (upto > floor(0.99 * (total - 1))) AS p99,
    min(value) FILTER (upto > floor(0.999 * (total - 1))) AS p999
FROM ranked
GROUP BY ALL
