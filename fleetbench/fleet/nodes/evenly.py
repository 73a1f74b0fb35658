"""Ray lowers the priority of its workers; what is measured must not run below everything else of its machine."""

from __future__ import annotations

EVENLY = {"RAY_worker_niceness": "0"}
"""For the environment of a node's Ray. By itself it starts workers with niceness 15, which an engine and the load that
is sent to it would inherit."""
