"""The script for Slurm on a real Slurm, as an ordinary user: real Ray on every node of the allocation.

Where a test is about Slurm and Ray alone, `seal-ray` is played by a script that keeps time; the run that finishes and
the doctor's look are real ones.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import ROOT, USER, Slurm, missing
from slurm_cluster import slurm as start_slurm

from seal_ray.loops.history import Run
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.verification import verify

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or "Slurm is here"),
]
SCRIPT = ROOT / "cluster/slurm.sh"

# plays seal-ray: says who it is, works until a file appears, and hands over with 130 when it is told to stop
PLAYED = """#!/bin/bash
[ -z "${CONTAINED:-}" ] || echo "played: in the container"
trap 'echo played: told to stop; exit 130' TERM
for word; do case $word in placement.address=*) address=${word#*=};; esac; done
nodes=$(ray status --address "$address" 2>/dev/null | grep -c '^ 1 node_')
echo "played: $* as $(id -un), $nodes nodes"
case " $* " in *" fails "*) exit 2;; esac
while [ ! -e "$HOME/finish" ]; do sleep 0.3; done
echo played: done
"""

# plays a container: says what it was to run, and runs it
CONTAINER = """#!/bin/bash
echo "$*" >>"$HOME/contained"
export CONTAINED=yes
exec "$@"
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with start_slurm() as found:
        yield found


@pytest.fixture
def played(slurm: Slurm) -> str:
    """A PATH whose `seal-ray` is the played one. Pytest's own folders are closed to others whenever a pytest starts."""
    folder = slurm.folder / "bin"
    folder.mkdir(mode=0o755, exist_ok=True)
    for name, script in (("seal-ray", PLAYED), ("container", CONTAINER)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    (slurm.home / "finish").unlink(missing_ok=True)
    return f"{folder}:{slurm.environment()['PATH']}"


def finish(slurm: Slurm) -> None:
    (slurm.home / "finish").touch()


def test_a_run_finishes_on_two_nodes_and_leaves_nothing(slurm: Slurm) -> None:
    uri = slurm.home / "run"
    words = [str(ROOT / "jobs/tiny.yaml"), "--set", f"run.uri={uri}", "--set", "storage.shared=true"]
    words += ["--set", "run.rounds=1"]
    job = slurm.submit(SCRIPT, *words)
    assert slurm.ended(job) == "COMPLETED 0", slurm.log(job)
    assert Run(str(uri)).latest == 1 and not verify(Ledger(str(uri), read_only=True))
    assert "all 2 nodes are there" in slurm.log(job) and "CANCELLED" not in slurm.log(job)
    assert uri.stat().st_mode & 0o055 == 0o055  # colleagues can read it
    assert not [p for p in slurm.processes() if "ray" in p]
    own = [Path(f"/tmp/seal-ray-{job}"), *(Path(f"/tmp/seal-ray-{job}-{node}") for node in slurm.nodes)]
    assert not [path for path in own if path.exists()]


def test_a_cancelled_job_leaves_no_process(slurm: Slurm, played: str) -> None:
    job = slurm.submit(SCRIPT, "any.yaml", PATH=played)
    slurm.until(lambda: "played: run" in slurm.log(job), job)
    slurm.call("scancel", str(job))
    assert slurm.ended(job).startswith("CANCELLED")
    assert not slurm.left()


def test_two_jobs_share_a_node_and_its_ports(slurm: Slurm, played: str) -> None:
    on = ("--nodelist=n1",)
    jobs = [slurm.submit(SCRIPT, "any.yaml", nodes=1, options=on, PATH=played) for _ in range(2)]
    for job in jobs:
        slurm.until(lambda job=job: "played: run" in slurm.log(job), job)
        assert f"as {USER}, 1 nodes" in slurm.log(job)
    finish(slurm)
    assert [slurm.ended(job) for job in jobs] == ["COMPLETED 0"] * 2


def test_the_code_of_a_run_that_ended_for_good_is_the_jobs_and_it_is_not_tried_again(slurm: Slurm, played: str) -> None:
    job = slurm.submit(SCRIPT, "any.yaml", "fails", nodes=1, PATH=played)
    assert slurm.ended(job) == "FAILED 2" and slurm.field(job, "Restarts") == "0"


def test_a_job_near_its_time_limit_hands_over_and_is_requeued(slurm: Slurm, played: str) -> None:
    options = ("--time=3", "--signal=B:USR1@60")
    job = slurm.submit(SCRIPT, "any.yaml", nodes=1, options=options, PATH=played)
    slurm.until(lambda: slurm.field(job, "Restarts") == "1", job)
    assert "played: told to stop" in slurm.log(job) and "ended with 130" in slurm.log(job)
    finish(slurm)
    assert slurm.ended(job) == "COMPLETED 0"
    assert slurm.log(job).count("played: run") == 2  # the log of the first time is still there
    assert {p.name for p in (slurm.home / "seal-ray-logs").glob(f"{job}-*")} == {f"{job}-0", f"{job}-1"}


def test_a_head_that_dies_is_noticed_and_the_job_requeued_until_it_may_not_be(slurm: Slurm, played: str) -> None:
    job = slurm.submit(SCRIPT, "any.yaml", nodes=1, PATH=played, MAX_RESTARTS="1")
    for restart in range(2):
        slurm.until(lambda n=restart: slurm.log(job).count("played: run") == n + 1, job)
        gcs = [p.split()[0] for p in slurm.processes() if "gcs_server" in p]
        slurm.call("kill", "-KILL", *gcs)
    assert slurm.ended(job) == "FAILED 3", slurm.log(job)
    assert "the head was lost; restarted 1 times already" in slurm.log(job)


def test_a_node_that_crashes_does_not_end_the_job(slurm: Slurm, played: str) -> None:
    job = slurm.submit(SCRIPT, "any.yaml", PATH=played)
    slurm.until(lambda: "2 nodes" in slurm.log(job), job)
    other = next(n for n in slurm.nodes if n != slurm.field(job, "BatchHost"))
    slurm.crash(other)
    slurm.until(lambda: f"{other}: Ray ended" in slurm.log(job), job)
    assert slurm.state(job) == "RUNNING"
    finish(slurm)
    slurm.start_node(other)
    assert slurm.ended(job) == "COMPLETED 0"


def test_a_requeued_job_starts_again(slurm: Slurm, played: str) -> None:
    job = slurm.submit(SCRIPT, "grid-%a", nodes=1, options=("--array=7",), PATH=played)
    slurm.until(lambda: "played: run grid-7" in slurm.log(job), job)
    slurm.call("scontrol", "requeue", str(job))
    slurm.until(lambda: slurm.log(job).count("played: run grid-7") == 2, job)
    finish(slurm)
    assert slurm.ended(job) == "COMPLETED 0"


def test_every_command_on_a_node_goes_through_the_container_and_has_the_arguments_for_srun(
    slurm: Slurm, played: str
) -> None:
    (slurm.home / "contained").unlink(missing_ok=True)
    finish(slurm)
    job = slurm.submit(SCRIPT, "any.yaml", PATH=played, CONTAINER="container", SRUN_ARGS="--label")
    assert slurm.ended(job) == "COMPLETED 0", slurm.told(job)
    assert "0: played: in the container" in slurm.log(job)  # srun's own label
    ran = (slurm.home / "contained").read_text().splitlines()
    for part in ("--head", "--address", "ray health-check", "ray status", "seal-ray run any.yaml", "rm -rf"):
        assert any(part in line for line in ran), (part, ran)
    for log in (slurm.home / f"seal-ray-logs/{job}-0").iterdir():
        assert all(line.startswith("0:") for line in log.read_text().splitlines() if not line.startswith("srun:")), log


def test_another_command_gets_the_arguments_and_the_cluster(slurm: Slurm, played: str) -> None:
    finish(slurm)
    job = slurm.submit(SCRIPT, "any.yaml", "--arms", "none", nodes=1, PATH=played, COMMAND="evaluate")
    assert slurm.ended(job) == "COMPLETED 0", slurm.told(job)
    assert "played: evaluate any.yaml --arms none --set placement.address=" in slurm.log(job)
    assert "stop_within" not in slurm.log(job)  # a setting of a run's end


def test_the_doctor_examines_the_allocation(slurm: Slurm) -> None:
    words = [str(ROOT / "jobs/tiny.yaml"), "--set", f"run.uri={slurm.home}/looked", "--set", "storage.shared=true"]
    job = slurm.submit(SCRIPT, *words, COMMAND="doctor")
    ended, said = slurm.ended(job), slurm.log(job)
    for check in ("versions", "collective", "run uri"):
        assert re.search(rf"^green +{check} .* 2 nodes", said, re.MULTILINE), slurm.told(job)
    assert ended == ("FAILED 3" if re.search("^red ", said, re.MULTILINE) else "COMPLETED 0")  # a full machine is red


def test_whoever_submitted_can_look_around_in_the_cluster_and_nobody_else(slurm: Slurm, played: str) -> None:
    job = slurm.submit(SCRIPT, "any.yaml", nodes=1, PATH=played)
    slurm.until(lambda: "played: run" in slurm.log(job), job)
    told = next(line for line in slurm.log(job).splitlines() if "to look around: " in line)
    command, then = told.split("to look around: ")[1].split(", then: ")
    words = command.replace(" --pty", "").split()  # there is no terminal here
    assert "1 node_" in slurm.call(*words, "-c", f"{then}; ray status")
    assert Path(then.split()[1]).stat().st_mode & 0o077 == 0
    finish(slurm)
    assert slurm.ended(job) == "COMPLETED 0"
