-- Must be empty: a request whose stamps are not in order.
SELECT run_id, trial_id, request
FROM requests
WHERE first_token_ns < start_ns OR last_token_ns < first_token_ns OR end_ns < last_token_ns
