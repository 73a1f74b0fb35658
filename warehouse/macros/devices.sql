-- How many devices a cell ran on: a CPU (0 GPUs) is one; NULL where nobody knows.
-- Row: a value. Key: none. Units: a count.
CREATE OR REPLACE MACRO devices(gpus) AS CASE WHEN gpus > 0 THEN gpus WHEN gpus = 0 THEN 1 END
