-- A word that says something, else NULL: `unknown` is what a server that was measured as it is does not say of itself.
-- Row: a value. Key: none. Units: none.
CREATE OR REPLACE MACRO known(word) AS nullif(word, 'unknown')
