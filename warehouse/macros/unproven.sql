-- Why a cell stays out where a best is named: its quality was not shown to hold. NULL where it was, where the recipe is
-- the reference itself, and for all cells after SET VARIABLE unproven = true.
-- Row: a value. Key: none. Units: none.
CREATE OR REPLACE MACRO unproven(quality_verdict) AS
    CASE
        WHEN coalesce(getvariable('unproven'), FALSE) OR quality_verdict IN ('PASS', 'REFERENCE') THEN NULL
        ELSE 'quality not shown: ' || coalesce(quality_verdict, 'nobody judged it')
    END
