-- An aggregate: the highest less the lowest value, over their median; NULL below two values, for of one nobody knows
-- it.
-- Row: a group. Key: that of the query. Units: a ratio.
CREATE OR REPLACE MACRO spread_ratio(x) AS
CASE WHEN count(x) > 1 THEN (max(x) - min(x)) / nullif(abs(median(x)), 0) END
