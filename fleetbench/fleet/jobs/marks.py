"""Words that a job and who sent it agree on."""

from __future__ import annotations

MATRIX, RUN_ID, RUN = "fleetbench_matrix", "fleetbench_run_id", "fleetbench_run"
NAME, WAREHOUSE = "fleetbench_matrix_name", "fleetbench_warehouse"
"""Keys of a job's metadata, where Ray keeps text beside a job: the driver alone gets it, and no launch of it."""
MARK = "\x1e"
"""Begins a line of a job's standard output; Ray keeps both streams as one, with its own lines between."""
PYTHON = "FLEETBENCH_PYTHON"
"""The interpreter that has fleetbench, in a node's environment: a job's shell may have none in its PATH, or another."""
ACTIVE = frozenset({"PENDING", "RUNNING"})
"""States of a job that has not ended."""
