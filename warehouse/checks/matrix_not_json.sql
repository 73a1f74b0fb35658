-- Must be empty: a run whose matrix cannot be read, so that its recipes and its SLO are unknown.
SELECT run_id FROM runs WHERE NOT json_valid(matrix_json)
