"""A driver that is killed while a sampler generates leaves no process with an engine behind."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from running_processes import runs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DRIVER = """
import os, sys, ray
from seal_ray.config import ModelSection
from seal_ray.records import Version
from seal_ray.sampling.engine import ENVIRONMENT, EngineSettings
from seal_ray.sampling.sampler import EditPrompt, Sampler

class Telling(Sampler):
    def pid(self):
        return os.getpid()

ray.init(address=sys.argv[1], log_to_driver=False, **({"num_cpus": 2} if sys.argv[1] == "local" else {}))
settings = EngineSettings(dtype="float32", max_length=8192, kv_cache_gb=1, batch=256)
sampler = ray.remote(Telling).options(runtime_env={"env_vars": ENVIRONMENT}).remote(
    ModelSection(name="builtin:tiny"), settings)
ray.get(sampler.start.remote())
ray.get(sampler.load_version.remote(Version(0, "v0", "base")))
pid = ray.get(sampler.pid.remote())
# without a schema to end it and with every slot filled, this generates for far longer than the test waits
chunk = [EditPrompt("t", n, (5, 6, 7), seed=n, max_tokens=8000, top_p=1.0) for n in range(256)]
work = sampler.sample.remote(chunk)
ray.wait([work], timeout=2)
print(pid, flush=True)
ray.get(work)
"""


@pytest.fixture(params=["local", "cluster"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "local":
        yield "local"
        return
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        yield str(cluster.address)
    finally:
        cluster.shutdown()


def test_a_sampler_in_the_middle_of_its_work_dies_with_its_driver(address: str) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, address], stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ}
    )
    try:
        assert driver.stdout is not None
        pid = int(driver.stdout.readline())
        assert runs(pid)
    finally:
        driver.kill()
        driver.wait()
    until = time.monotonic() + 300
    while runs(pid):
        assert time.monotonic() < until, f"process {pid} outlived its driver"
        time.sleep(0.2)
