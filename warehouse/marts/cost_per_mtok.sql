-- Row: a good speed cell with what a million tokens cost on it.
-- Key: run_id, cell_id.
-- Units: US dollars a million tokens: output tokens, and prompt and output together (total). usd_per_hour is of one
-- device (a CPU is one) by the catalog, as of price_date by price_source: today's price, whenever the cell was
-- measured. Price of all its devices over output_tok_s, the median of trials; low and high: at the fastest and the
-- slowest trial, NULL below two. no_cost says why a cost is NULL: such a row stays.
SELECT
    c.run_id, c.cell_id, c.origin, c.submitted_at, c.model, c.random_weights, c.recipe, c.weights, c.kv,
    c.engine, c.engine_version, c.hardware, c.gpus, c.tp, c.pp, c.dp,
    c.batch, c.rate_per_s, c.context_tok, c.output_tok,
    c.trials, c.trials_not_ok, c.output_tok_s, c.output_tok_s_spread_ratio, c.total_tok_s,
    p.usd_per_hour, p.source AS price_source, p.date AS price_date,
    p.usd_per_hour * devices(c.gpus) / 3600 / nullif(c.output_tok_s, 0) * 1e6 AS usd_per_mtok,
    CASE
        WHEN c.trials >= 2 THEN p.usd_per_hour * devices(c.gpus) / 3600 / nullif(c.output_tok_s_max, 0) * 1e6
    END AS usd_per_mtok_low,
    CASE
        WHEN c.trials >= 2 THEN p.usd_per_hour * devices(c.gpus) / 3600 / nullif(c.output_tok_s_min, 0) * 1e6
    END AS usd_per_mtok_high,
    p.usd_per_hour * devices(c.gpus) / 3600 / nullif(c.total_tok_s, 0) * 1e6 AS usd_per_mtok_total,
    CASE
        WHEN p.usd_per_hour IS NULL THEN 'no price of ' || c.hardware || ' is known'
        WHEN c.gpus IS NULL THEN 'the number of GPUs is unknown'
        WHEN coalesce(c.output_tok_s, 0) = 0 THEN 'no rate is stored'
    END AS no_cost
FROM speed_cells AS c
LEFT JOIN prices AS p ON lower(c.hardware) = p.hardware
WHERE c.trials > 0
