"""The head of a real cluster dies under a run: the driver says so, and leaves with the code for infrastructure; or the
head comes back to what it kept on disk, and the run goes on as if nothing had been."""

import subprocess
import time
from pathlib import Path

import pytest
from command import COMMAND, ROOT, environment
from ray.cluster_utils import Cluster

from seal_ray.events import RunEnded, RunStarted
from seal_ray.fleet.head_watch import SETTING
from seal_ray.loops.history import Run


@pytest.mark.slow
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
        _, said = driver.communicate()
        assert driver.returncode == 3, said
        assert "head of the Ray cluster has not answered for" in said and "the same command goes on" in said
    finally:
        cluster.shutdown()
    ends = [e for e in Run(uri).events() if isinstance(e, RunEnded)]
    assert [e.outcome for e in ends] == ["InfraError"]
    done = subprocess.run([*words, "placement.address=local"], cwd=ROOT, env=environment(), check=False)
    assert done.returncode == 0 and Run(uri).latest == 2


@pytest.mark.slow
def test_a_head_that_comes_back_to_what_it_kept_ends_nothing(tmp_path: Path) -> None:
    """Ray's own store on disk (alpha) keeps what the head knows; a Redis does the same from elsewhere."""
    uri = str(tmp_path / "run")
    kept = {"gcs_storage": "rocksdb", "gcs_storage_path": str(tmp_path / "head")}
    head = {"num_cpus": 2, "include_dashboard": False, "_system_config": kept}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        command = [COMMAND, "run", "jobs/tiny.yaml", "--set", f"run.uri={uri}", "--set"]
        driver = subprocess.Popen(
            [*command, f"placement.address={cluster.address}"],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        while driver.poll() is None and not list((tmp_path / "run").rglob("edits*")):
            time.sleep(0.2)
        assert cluster.head_node
        cluster.head_node.kill_gcs_server()
        time.sleep(8)  # less than Ray's and our own patience, and long enough to be missed
        cluster.head_node.start_gcs_server()
        _, said = driver.communicate()
        assert driver.returncode == 0, said
    finally:
        cluster.shutdown()
    events = Run(uri).events()
    assert [type(e) for e in events if isinstance(e, (RunStarted, RunEnded))] == [RunStarted, RunEnded]
    assert Run(uri).latest == 2
