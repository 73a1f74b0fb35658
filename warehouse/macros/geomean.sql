-- An aggregate: the geometric mean of ratios; those that are NULL, 0 or negative have none and are left out.
-- Row: a group. Key: that of the query. Units: those of x.
CREATE OR REPLACE MACRO geomean(x) AS exp(avg(ln(CASE WHEN x > 0 THEN x END)))
