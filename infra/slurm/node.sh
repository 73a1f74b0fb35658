#!/usr/bin/env bash
# On each node of the allocation: node.sh RUN_SCRIPT ARGUMENT..., by fleetbench.sbatch. The first node becomes the head
# and runs the script when all nodes are there.
set -euo pipefail

# What this node is: the tags that `fleetbench node up` would give it, out of the command that it would run. As a head,
# because no head is up yet that it could ask. FLEETBENCH_NODE_OPTIONS: `--pool NAME`, `--simulate h100:8`, ...
read -ra options <<<"${FLEETBENCH_NODE_OPTIONS:-}"
command=$(fleetbench node up --head --dry-run "${options[@]}" | grep -m 1 'ray start')
mapfile -t words < <(xargs -n 1 printf '%s\n' <<<"$command")
tags=()
for at in "${!words[@]}"; do
  case ${words[at]} in
    --labels=* | --resources=* | --num-gpus=* | --object-store-memory=*) tags+=("${words[at]}") ;;
  esac
done
if ((${#tags[@]} == 0)); then
  echo "$(hostname): fleetbench node up found no tags for this node" >&2
  exit 4
fi

# As `fleetbench node up` has it: a launch sets its engine's devices, and Ray does not; Slurm's own choice is the node.
unset CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES GPU_DEVICE_ORDINAL
export RAY_EXPERIMENTAL_NOSET_{CUDA,HIP,ROCR}_VISIBLE_DEVICES=1 RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0

# Ray's sockets and logs: of this job, on this node, gone with it.
export RAY_TMPDIR=/tmp/fleetbench-$SLURM_JOB_ID
rm -rf "$RAY_TMPDIR"
mkdir -m 700 "$RAY_TMPDIR"
trap 'rm -rf "$RAY_TMPDIR"' EXIT
ulimit -n "$(ulimit -H -n)"

# symmetric-run gives up after half a minute on a head that is not there yet.
if ((SLURM_NODEID > 0)); then
  for ((waited = 0; waited < RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT; waited++)); do
    (: <"/dev/tcp/${RAY_ADDRESS%:*}/${RAY_ADDRESS##*:}") 2>/dev/null && break
    sleep 1
  done
fi

code=0
ray symmetric-run --address "$RAY_ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" \
  "${tags[@]}" --dashboard-host=127.0.0.1 --disable-usage-stats -- bash "$@" || code=$?
if ((SLURM_NODEID == 0)); then echo "$code" >"$FLEETBENCH_STATE/code"; fi
