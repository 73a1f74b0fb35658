-- An aggregate: the mean of means, each by the number of its samples; where one of them does not say it, all alike.
-- Row: a group. Key: that of the query. Units: those of the means.
CREATE OR REPLACE MACRO pooled_mean(mean, n) AS
CASE
    WHEN bool_and(n IS NOT NULL) FILTER (mean IS NOT NULL)
        THEN sum(mean * n) / nullif(sum(n) FILTER (mean IS NOT NULL), 0)
    ELSE avg(mean)
END
