-- Row: a speed cell of the reference recipe, measured once more at the end of its run.
-- Key: run_id, cell_id.
-- Units: ratios and tokens a second; first_n and control_n count trials.
-- ratio: median output tok/s of the control over that of the first launch; 1 is no drift. Where a node gave both, only
-- what such nodes gave counts (same_node); where none did, the ratio includes the difference between the nodes.
-- first_nodes, control_nodes: names of those that count.
WITH speeds AS (
    SELECT
        run_id, cell_id, model, random_weights, recipe, engine, engine_version, hardware, batch, rate_per_s, context_tok,
        output_tok, node, role, output_tok_s
    FROM trials
    SEMI JOIN (SELECT run_id, cell_id FROM trials WHERE role = 'control') USING (run_id, cell_id)
    WHERE kind = 'speed' AND role IN ('measure', 'control') AND outcome = 'ok' AND valid
),

shared AS (
    SELECT run_id, cell_id, node FROM speeds
    GROUP BY ALL
    HAVING bool_or(role = 'measure') AND bool_or(role = 'control')
),

placed AS (
    SELECT
        speeds.*,
        shared.node IS NOT NULL AS gave_both,
        bool_or(shared.node IS NOT NULL) OVER (PARTITION BY speeds.run_id, speeds.cell_id) AS same_node
    FROM speeds
    LEFT JOIN shared USING (run_id, cell_id, node)
)

SELECT
    p.run_id, r.last_submitted_at AS submitted_at, r.origin, cell_id, model, random_weights, recipe, engine, hardware, batch,
    rate_per_s, context_tok, output_tok, same_node,
    list_sort(list_distinct(list(node) FILTER (role = 'measure'))) AS first_nodes,
    list_sort(list_distinct(list(node) FILTER (role = 'control'))) AS control_nodes,
    median(output_tok_s) FILTER (role = 'measure') AS first_tok_s,
    median(output_tok_s) FILTER (role = 'control') AS control_tok_s,
    count(output_tok_s) FILTER (role = 'measure') AS first_n,
    count(output_tok_s) FILTER (role = 'control') AS control_n,
    median(output_tok_s) FILTER (role = 'control')
    / nullif(median(output_tok_s) FILTER (role = 'measure'), 0) AS ratio
FROM placed AS p
LEFT JOIN runs AS r ON p.run_id = r.run_id
WHERE gave_both = same_node
GROUP BY ALL
HAVING control_n > 0 AND first_n > 0
