-- Why the inter-token latencies of two cells are not compared; NULL where they may be.
-- Row: a pair. Key: that of the query. Units: tokens an arrival, within 5 % of each other.
CREATE OR REPLACE MACRO itl_refusal(tokens_from, other_from, per_arrival, other_per_arrival) AS
CASE
    WHEN tokens_from IS NULL OR other_from IS NULL OR tokens_from <> 'usage' OR other_from <> 'usage'
        THEN 'the server does not count the tokens'
    WHEN per_arrival IS NULL OR other_per_arrival IS NULL THEN 'nobody knows how many tokens an arrival brings'
    WHEN greatest(per_arrival, other_per_arrival) > 1.05 * least(per_arrival, other_per_arrival)
        THEN format('tokens an arrival: {:.2f} against {:.2f}', per_arrival, other_per_arrival)
END
