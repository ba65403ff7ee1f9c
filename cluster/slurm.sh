#!/usr/bin/env bash
# Starts Ray over the nodes of a Slurm allocation, runs one configuration, and takes Ray down again.
#   sbatch cluster/slurm.sh jobs/4-nodes-of-8.yaml --set run.uri=/shared/runs/first --set storage.shared=true
# Requeued after a preemption, a lost head or its time limit, the same command goes on where the run stopped.
# An array gives each element a run of its own: write %a into the URI (run.uri=/shared/runs/grid-%a).
#
# Settings, from the environment of sbatch:
#   COMMAND       run (default), evaluate, doctor: the command of seal-ray that gets the arguments
#   SRUN_ARGS     added to every srun (pyxis: --container-image=… --container-mounts=…)
#   CONTAINER     before every command on a node (apptainer exec --nv seal-ray.sif)
#   HEAD_IP       the head's address where the first one of `hostname -I` is the wrong network
#   NODES_WAIT    seconds to wait for all nodes before the run starts with those that came (300)
#   MAX_RESTARTS  how often the job may requeue itself (20)
#   LOGS          folder for what Ray says on each node, one for each restart (seal-ray-logs)
#SBATCH --job-name=seal-ray
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --gres=gpu:8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
##SBATCH --account=
##SBATCH --partition=
set -uo pipefail

[ $# -ge 1 ] || { echo "usage: sbatch cluster/slurm.sh CONFIG [options of seal-ray run]" >&2; exit 2; }
[ -n "${SLURM_JOB_ID:-}" ] || { echo "this is a job script: sbatch cluster/slurm.sh CONFIG …" >&2; exit 2; }
restart=${SLURM_RESTART_COUNT:-0}
command=${COMMAND:-run}
home=/tmp/seal-ray-$SLURM_JOB_ID                    # on each node: Ray's own files; sockets want a short path
logs=${LOGS:-$PWD/seal-ray-logs}/$SLURM_JOB_ID-$restart
mkdir -p "$logs" || exit 2
arguments=("${@//%a/${SLURM_ARRAY_TASK_ID:-0}}")

# who knows the token can run code on the cluster; it lives in the job's environment only, and as long as the job
RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0
unset RAY_AUTH_TOKEN_PATH RAY_ADDRESS

say() { printf '%s %s\n' "$(date +%T)" "$*"; }

# step NODE LOG COMMAND…: on one node (- is the job's own log), beside the job's other steps, with all that the job has there
step() {
    local node=$1 log=$2
    shift 2
    [ "$log" = - ] || exec >>"$log" 2>&1
    # shellcheck disable=SC2086  # both are lists of words
    exec srun --export=ALL --overlap --nodes=1 --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" -w "$node" \
        ${SRUN_ARGS:-} ${CONTAINER:-} "$@"
}

RAY_START='ray start --block --disable-usage-stats --dashboard-agent-listen-port=0 --num-cpus="${SLURM_CPUS_PER_TASK:-1}"'
RAY_START+=' ${SLURM_GPUS_ON_NODE:+--num-gpus="$SLURM_GPUS_ON_NODE"} --temp-dir="$0" "$@"'

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
ip=${HEAD_IP:-$(hostname -I | awk '{print $1}')}    # this script runs on the first node; its name may be a loopback's
ip=${ip:-127.0.0.1}
head_pid= driver_pid= stop=
workers=()

on_limit() { stop=limit; say "the time limit is near: the run closes what it has and hands over"; stop_driver; }
on_term() { stop=told; say "told to stop"; stop_driver; }
# the driver's step is signalled through Slurm: srun itself, told to stop, kills its task at once
stop_driver() {
    [ -n "$driver_pid" ] || return 0
    local driver
    driver=$(squeue --noheader --steps --jobs="$SLURM_JOB_ID" --format='%i %j' | awk '$2 == "driver" {print $1}')
    scancel --signal=TERM "$driver" || kill -TERM "$driver_pid" 2>/dev/null
}
trap on_limit USR1
trap on_term TERM INT

# wait_for PID: its exit code, however many signals come meanwhile
wait_for() {
    local code=0
    while :; do
        wait "$1"
        code=$?
        kill -0 "$1" 2>/dev/null || break
    done
    wait "$1" 2>/dev/null || code=$?
    return "$code"
}

take_down() {
    trap '' USR1 TERM INT
    kill -TERM "${workers[@]}" $head_pid 2>/dev/null
    for _ in $(seq 20); do
        [ -n "$(jobs -pr)" ] || break
        sleep 0.5
    done
    # shellcheck disable=SC2046
    kill -KILL $(jobs -pr) 2>/dev/null
    local node
    for node in "${nodes[@]}"; do (step "$node" "$logs/clean.log" timeout 20 rm -rf "$home" "$home-$node") & done
    for _ in $(seq 60); do
        [ -n "$(jobs -pr)" ] || break
        sleep 0.5
    done
}
trap take_down EXIT

# a head that is up answers; one that dies is noticed at once; both tries and waiting are bounded
start_head() {
    local try ready_pid
    for try in 0 1 2; do
        port=$((20000 + (SLURM_JOB_ID * 4 + try * 1357) % 9000))
        address=$ip:$port
        (step "$head" "$logs/head.log" bash -c "$RAY_START" "$home" --head --node-ip-address="$ip" --port="$port" \
            --dashboard-host=127.0.0.1 --dashboard-port=$((port + 1)) --ray-client-server-port=$((port + 2))) &
        head_pid=$!
        (step "$head" "$logs/ready.log" timeout 180 bash -c \
            'until timeout 20 ray health-check --address "$0"; do sleep 1; done' "$address") &
        ready_pid=$!
        wait -n "$head_pid" "$ready_pid" && kill -0 "$head_pid" 2>/dev/null && return 0
        kill -TERM "$head_pid" "$ready_pid" 2>/dev/null
        [ -z "$stop" ] || return 1
        say "the head did not come up on $head (try $((try + 1)) of 3; see $logs/head.log)"
        sleep 2
    done
    return 1
}

# a node joins, and joins again if its Ray dies: up to three tries
keep_worker() {
    local node=$1 try pid=
    trap '[ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null; exit 0' TERM
    for try in 1 2 3; do
        (trap - TERM; step "$node" "$logs/worker-$node.log" bash -c "$RAY_START" "$home-$node" --address="$address") &
        pid=$!
        wait "$pid"
        say "$node: Ray ended with $? (try $try of 3; see $logs/worker-$node.log)"
        sleep 5 &
        wait $!
    done
}

wait_for_nodes() {
    local count=${#nodes[@]}
    (step "$head" "$logs/nodes.log" timeout "${NODES_WAIT:-300}" bash -c \
        'until [ "$(timeout 20 ray status --address "$0" | grep -c "^ 1 node_")" -ge "$1" ]; do sleep 2; done' \
        "$address" "$count") &
    wait -n "$!" "$head_pid" && kill -0 "$head_pid" 2>/dev/null && { say "all $count nodes are there"; return; }
    [ -z "$stop" ] || return
    local node
    for node in "${nodes[@]:1}"; do
        grep -qs "Ray runtime started" "$logs/worker-$node.log" || say "missing: $node (see $logs/worker-$node.log)"
    done
    say "not all of $count nodes came within ${NODES_WAIT:-300} s; the run starts with those that did"
}

again() {
    if [ "$restart" -ge "${MAX_RESTARTS:-20}" ]; then
        say "$1; restarted $restart times already, so it is not requeued (MAX_RESTARTS)"
        return
    fi
    say "$1; the job is requeued"
    take_down
    trap - EXIT
    scontrol requeue "$SLURM_JOB_ID" && sleep 60    # Slurm ends this script meanwhile
}

say "job $SLURM_JOB_ID, restart $restart, on ${nodes[*]}; what Ray says is in $logs"
# leave before the run has begun, where that was asked for
leave_early() {
    [ -n "$stop" ] || return 0
    [ "$stop" != limit ] || again "the time limit came before the run began"
    exit 130
}

if ! start_head; then
    leave_early
    say "no Ray head on $head after 3 tries"
    exit 3
fi
say "head at $address; to look around: srun --jobid=$SLURM_JOB_ID --overlap -w $head --pty bash, then: . $home/attach"
for node in "${nodes[@]:1}"; do
    keep_worker "$node" &
    workers+=($!)
done
(umask 077 && printf 'export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=%s RAY_ADDRESS=%s\n' "$RAY_AUTH_TOKEN" "$address" >"$home/attach")
wait_for_nodes
leave_early

options=(--set "placement.address=$address")
[ "$command" != run ] || options+=(--set storage.stop_within=60)
(SRUN_ARGS="--job-name=driver ${SRUN_ARGS:-}"; step "$head" - seal-ray "$command" "${arguments[@]}" "${options[@]}") &
driver_pid=$!
wait -n "$driver_pid" "$head_pid"
if ! kill -0 "$head_pid" 2>/dev/null && kill -0 "$driver_pid" 2>/dev/null; then
    say "the head is lost (see $logs/head.log)"
    stop_driver
    [ -n "$stop" ] || stop=head
fi
wait_for "$driver_pid"
code=$?
say "seal-ray $command ended with $code"
case $stop in
    limit) [ "$code" -ne 130 ] || again "interrupted by the time limit" ;;
    head) again "the head was lost" && code=3 ;;
esac
exit "$code"
