-- An aggregate: reasons why, each once with its count: 'why (3); else (1)'. NULL where nothing is left out.
-- Row: a group. Key: that of the query. Units: counts.
CREATE OR REPLACE MACRO left_out(reason) AS
nullif(
    array_to_string(
        list_transform(map_entries(histogram(reason)), lambda entry : format('{} ({})', entry.key, entry.value)), '; '
    ),
    ''
)
