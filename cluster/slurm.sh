#!/usr/bin/env bash
# Starts Ray over the nodes of a Slurm allocation, runs one configuration, and takes Ray down again.
#   sbatch cluster/slurm.sh jobs/4-nodes-of-8.yaml --set run.uri=/shared/runs/first --set storage.shared=true
# Requeued after a preemption, the same command goes on where the run stopped.
#SBATCH --job-name=seal-ray
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --requeue
#SBATCH --signal=B:TERM@60
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: sbatch cluster/slurm.sh CONFIG [options of seal-ray run]" >&2; exit 2; }
export RAY_AUTH_MODE=token
umask 077
token=$(mktemp -d "${SLURM_SUBMIT_DIR:-$PWD}/.ray-token-XXXXXX")
export RAY_AUTH_TOKEN_PATH=$token/token
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
ip=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')
port=${RAY_PORT:-6379}

pids=()
clean() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait || true
    rm -rf "$token"
}
trap clean EXIT

srun --nodes=1 --ntasks=1 -w "$head" ray start --head --node-ip-address="$ip" --port="$port" --block &
pids+=($!)
for node in "${nodes[@]:1}"; do
    srun --nodes=1 --ntasks=1 -w "$node" ray start --address="$ip:$port" --block &
    pids+=($!)
done

for _ in $(seq 60); do
    if ray status --address="$ip:$port" >/dev/null 2>&1; then break; fi
    sleep 5
done

seal-ray run "$@" --set placement.address="$ip:$port" --set storage.stop_within=30 &
run=$!
trap 'kill -TERM "$run" 2>/dev/null' TERM
wait "$run"
