-- An aggregate: by what factor ratios lie around their geometric mean (one standard deviation); NULL below two.
-- Row: a group. Key: that of the query. Units: a ratio, 1 where all are equal.
CREATE OR REPLACE MACRO geometric_sd(x) AS exp(stddev_samp(ln(CASE WHEN x > 0 THEN x END)))
