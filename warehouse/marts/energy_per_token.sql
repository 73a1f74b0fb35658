-- Row: a good speed cell with the energy of its tokens.
-- Key: run_id, cell_id.
-- Units: joules a token: an output token (energy_j_per_tok, net_j_per_tok), prompt and output together
-- (energy_j_per_total_tok); watts of all devices.
-- Gross: the devices' own counters over the window, not wall power. Net: less idle_power_w over the window, which was
-- read on the same launch with the engine up and no request in flight; it is NULL, never gross, where that is unknown.
-- Medians over energy_n and net_n of the good trials, spread beside. n_left_out good trials have no energy:
-- power_status says why.
SELECT
    run_id, cell_id, origin, submitted_at, model, random_weights, recipe, weights, kv, engine, engine_version,
    hardware, gpus, tp, pp, dp, batch, rate_per_s, context_tok, output_tok,
    trials, output_tok_s, power_mean_w, idle_power_w,
    energy_j_per_tok, energy_n, energy_spread_ratio, energy_j_per_total_tok,
    net_j_per_tok, net_n, net_spread_ratio,
    trials - energy_n AS n_left_out,
    CASE WHEN trials > energy_n THEN power_status END AS left_out,
    CASE
        WHEN energy_n = 0 THEN 'no energy: power ' || replace(power_status, '_', ' ')
        WHEN net_n = 0 THEN 'the idle power was not read'
    END AS no_net
FROM speed_cells
WHERE trials > 0
