-- Whether two recipes of equal formats are one in all else: as their matrices have them, or where one is in none, by
-- name.
-- Row: a pair. Key: that of the query. Units: none.
CREATE OR REPLACE MACRO same_recipe(json, other_json, name, other_name) AS coalesce(json = other_json, name = other_name)
