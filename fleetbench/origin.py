"""Where rows come from: measured by fleetbench, or imported from another tool's results."""

from __future__ import annotations

OWN = "fleetbench"
"""The origin of what fleetbench measured itself: a check asks it for the columns that imported results may lack."""

NO_REFERENCE = "none"
"""The reference of a run that has none: other tools measure without."""
