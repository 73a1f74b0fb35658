-- Must be empty: a cell that was refused and run all the same, in one run.
SELECT run_id, cell_id FROM refusals SEMI JOIN trials USING (run_id, cell_id)
