-- Must be empty: a trial whose sketch holds another number of values than its column says.
SELECT t.run_id, t.trial_id, t.ttft_n, t.itl_n
FROM trials AS t
INNER JOIN trial_sketches AS s ON t.run_id = s.run_id AND t.trial_id = s.trial_id AND t.attempt = s.attempt
WHERE
    s.ttft_sketch.zero + coalesce(list_sum(s.ttft_sketch.counts), 0) <> t.ttft_n
    OR s.itl_sketch.zero + coalesce(list_sum(s.itl_sketch.counts), 0) <> t.itl_n
