-- Row: a cell that planning refused, once however often the run was submitted; one that was refused only because its
-- node was away (not_here), and was run all the same by another submission, is none.
-- Key: run_id, cell_id.
-- Units: _tok tokens.
SELECT *
FROM landed.refusals AS r
WHERE NOT (
    verdict = 'not_here'
    AND EXISTS (SELECT 1 FROM landed.trials AS t WHERE t.run_id = r.run_id AND t.cell_id = r.cell_id)
)
QUALIFY row_number() OVER (PARTITION BY run_id, cell_id ORDER BY rule, sentence) = 1
