-- Row: a cell that planning refused, once however often the run was submitted.
-- Key: run_id, cell_id.
SELECT *
FROM landed.refusals
QUALIFY row_number() OVER (PARTITION BY run_id, cell_id ORDER BY rule, sentence) = 1
