# Run in the CPU image (docker/rehearse.py --run): a head, a job that is handed to it, and what became of the run.
set -eu
ray get-auth-token --generate >/dev/null
ray start --head --num-cpus=2 --disable-usage-stats --dashboard-host=127.0.0.1 >/tmp/head.log 2>&1 || { cat /tmp/head.log; exit 1; }
export RAY_ADDRESS=http://127.0.0.1:8265
run=/home/seal/work/runs/image
id -un
date +%T
job=$(seal-ray submit jobs/tiny.yaml --address "$RAY_ADDRESS" --set run.uri="$run" --set storage.shared=true --json |
    python -c 'import json, sys; print(json.load(sys.stdin)["job"])')
until said=$(ray job status "$job" 2>&1) && grep -Eq "'$job' (succeeded|failed|was stopped)" <<<"$said"; do sleep 5; done
date +%T
ray job logs "$job" | tail -n 40
seal-ray status "$run"
echo "$said"
grep -q "'$job' succeeded" <<<"$said"
