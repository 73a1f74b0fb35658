#!/usr/bin/env bash
# On the head, when all nodes are there: run.sh MATRIX OPTION..., by node.sh.
set -euo pipefail
echo "$$" >"$FLEETBENCH_STATE/pid" # whom to stop when the time is up
exec fleetbench submit "$@" --address auto --wait-for-nodes 5m --warehouse "$FLEETBENCH_WAREHOUSE"
