"""Before a run takes the nodes of a cluster it asks each: the same software, and the run's URI seen as we see it."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from s3_server import KEYS, make_bucket, serve

from seal_ray.config import Config
from seal_ray.errors import ConfigError, InfraError
from seal_ray.fleet import cluster, node_survey
from seal_ray.fleet.node_survey import Told, check_nodes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Two nodes that have no credentials for S3, and do not look for a machine's role."""
    with pytest.MonkeyPatch.context() as patch:
        for key in KEYS:
            patch.delenv(key, raising=False)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        nodes.add_node(num_cpus=1)
        yield str(nodes.address)
        ray.shutdown()
        nodes.shutdown()


def configured(address: str, **sections: dict[str, object]) -> Config:
    config = Config.model_validate({"placement": {"address": address}} | sections)
    cluster.connect(config.placement)
    return config


def test_a_folder_of_one_machine_is_refused_on_a_cluster_of_several_unless_it_is_shared(
    address: str, tmp_path: Path
) -> None:
    for uri in (f"{tmp_path}/run", f"file://{tmp_path}/run"):
        with pytest.raises(ConfigError, match=r"cluster has 2 nodes; .*storage\.shared"):
            check_nodes(configured(address, run={"uri": uri}))
    assert not (tmp_path / "run").exists()
    check_nodes(configured(address, run={"uri": f"{tmp_path}/run"}, storage={"shared": True}))
    assert list((tmp_path / "run").iterdir()) == []  # nothing of the question is left


def test_a_run_asks_before_it_takes_anything(address: str, tmp_path: Path) -> None:
    command = str(Path(sys.executable).parent / "seal-ray")
    words = ["run", "jobs/tiny.yaml", "--set", f"run.uri={tmp_path}/run", "--set", f"placement.address={address}"]
    done = subprocess.run(
        [command, *words], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False, env={**os.environ}
    )
    assert done.returncode == 2 and "the cluster has 2 nodes" in done.stderr and "storage.shared" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_store_that_the_driver_reaches_and_the_workers_do_not_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve() as endpoint:
        name = f"runs-{uuid.uuid4().hex[:10]}"
        make_bucket(endpoint, name)
        for key, value in KEYS.items():
            monkeypatch.setenv(key, value)  # the driver's alone: the nodes are up already
        config = configured(address, run={"uri": f"s3://{name}/run"}, storage={"endpoint": endpoint})
        with pytest.raises(InfraError) as caught:
            check_nodes(config)
    message = str(caught.value)
    assert f"the driver reaches s3://{name}/run, but not every node does" in message
    assert "redentials" in message and "role" in caught.value.hint
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in message


def test_a_store_that_the_workers_see_elsewhere_is_refused(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a relative path means another folder in every process
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InfraError, match=r"does not see what the driver wrote.*mount the folder"):
        check_nodes(configured(address, run={"uri": "runs/here"}, storage={"shared": True}))


def test_a_node_with_other_software_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray.shutdown()
    other = tmp_path / "peft-0.1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 0.1.0\n")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        other_node = nodes.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(tmp_path)})
        config = configured(str(nodes.address), run={"uri": f"{tmp_path}/run"}, storage={"shared": True})
        with pytest.raises(InfraError, match=r"peft 0\.1\.0 where the driver has .*; use one image"):
            check_nodes(config)
        assert not (tmp_path / "run").exists()
        # a node that leaves while it is asked is no reason to refuse the run
        real = node_survey.ask

        def leaving(*args: Any, **more: Any) -> list[Told]:
            told = real(*args, **more)
            if other_node in nodes.worker_nodes:
                nodes.remove_node(other_node)
            until = time.monotonic() + 60
            while len(cluster.resources()) > 1 and time.monotonic() < until:
                time.sleep(0.1)
            return told

        monkeypatch.setattr(node_survey, "ask", leaving)
        check_nodes(config)
    finally:
        ray.shutdown()
        nodes.shutdown()
