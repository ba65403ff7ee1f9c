"""The head of a real cluster dies under a run: the driver says so, and leaves with the code for infrastructure."""

import subprocess
import time
from pathlib import Path

import pytest
from command import COMMAND, ROOT, environment
from ray.cluster_utils import Cluster

from seal_ray.events import RunEnded
from seal_ray.fleet.head_watch import SETTING
from seal_ray.loops.history import Run


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lost_head_ends_the_run_with_its_own_code_and_the_same_command_goes_on(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    words = [COMMAND, "run", "jobs/tiny.yaml", "--set", f"run.uri={uri}", "--set"]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        command = [*words, f"placement.address={cluster.address}"]
        driver = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**environment(), SETTING: "20"}
        )
        while driver.poll() is None and not list((tmp_path / "run").rglob("edits*")):
            time.sleep(0.2)
        assert cluster.head_node
        cluster.head_node.kill_gcs_server()
        _, said = driver.communicate(timeout=200)
        assert driver.returncode == 3, said
        assert "head of the Ray cluster has not answered for" in said and "the same command goes on" in said
    finally:
        cluster.shutdown()
    ends = [e for e in Run(uri).events() if isinstance(e, RunEnded)]
    assert [e.outcome for e in ends] == ["InfraError"]
    done = subprocess.run([*words, "placement.address=local"], cwd=ROOT, env=environment(), timeout=300, check=False)
    assert done.returncode == 0 and Run(uri).latest == 2
