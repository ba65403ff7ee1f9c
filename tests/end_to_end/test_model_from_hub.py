"""A real run whose model is on a hub: the nodes fetch the weights, and the driver, elsewhere, never has them."""

import subprocess
from pathlib import Path

import hub_mirror
import pytest
from command import COMMAND, ROOT, environment
from ray.cluster_utils import Cluster

from seal_ray import cache_folder, models
from seal_ray.config import ModelSection
from seal_ray.loops.history import Run
from seal_ray.policy import versions


@pytest.mark.slow
def test_only_nodes_fetch_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = models.fetch(ModelSection(name="builtin:tiny"))
    monkeypatch.setenv(cache_folder.ROOT, str(tmp_path / "node"))  # of all that the cluster starts
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    with hub_mirror.serve(Path(tiny), "some/model") as (url, _):
        settings = {
            "run.uri": tmp_path / "run",
            "run.rounds": 1,
            "model.name": "some/model",
            "model.mirror": url,
            "placement.address": cluster.address,
        }
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        try:
            done = subprocess.run(
                [COMMAND, "run", "jobs/tiny.yaml", *words],
                cwd=ROOT,
                env={**environment(), cache_folder.ROOT: str(tmp_path / "driver")},
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            cluster.shutdown()
    assert done.returncode == 0, done.stderr
    cached = {where: list((tmp_path / where).rglob("*.safetensors")) for where in ("driver", "node")}
    assert len(cached["node"]) == 1 and not cached["driver"]
    run = Run(str(tmp_path / "run"))
    assert run.round(1).version == versions.first(models.digest_of(tiny)), "it has another name than the whole model"
    assert run.latest == 1
