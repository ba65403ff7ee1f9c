"""A real Prometheus, set up by the shipped files, beside a real Ray on which a driver told of its run and left."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray

CLUSTER = Path(__file__).parents[2] / "cluster"
PROMETHEUS = shutil.which("prometheus")  # of Debian's package of that name

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PROMETHEUS, reason="there is no prometheus here")]

DRIVER = """
import ray, sys
from test_metrics import EVENTS
from seal_ray.config import Config
from seal_ray.observe.metrics import RayMetrics
ray.init(address=sys.argv[1], log_to_driver=False)
sink = RayMetrics(Config())
for event in EVENTS:  # the last one ends the run: its budget is spent
    sink(event)
sink.close()
"""

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def head() -> Iterator[Path]:
    """A head with Ray's list of what is to be scraped; gives the list."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path: sockets lie below it
    ray.init(address="local", num_cpus=1, include_dashboard=True, log_to_driver=False, _temp_dir=str(folder))
    try:
        yield folder / "prom_metrics_service_discovery.json"
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ask(head: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Prometheus's own interface, once it scrapes; it looks more often than the shipped file says."""
    folder = tmp_path_factory.mktemp("prometheus")
    shipped = (CLUSTER / "prometheus.yaml").read_text()
    here = {
        "/tmp/ray/prom_metrics_service_discovery.json": str(head),
        "scrape_interval: 15s": "scrape_interval: 1s\n  evaluation_interval: 1s",
        "refresh_interval: 15s": "refresh_interval: 1s",
    }
    for there, stands in here.items():
        assert shipped.count(there) == 1
        shipped = shipped.replace(there, stands)
    (folder / "prometheus.yaml").write_text(shipped)
    shutil.copy(CLUSTER / "alerts.yaml", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{free.getsockname()[1]}"
    words = [
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={at}",
    ]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([str(PROMETHEUS), *words], stdout=log, stderr=log)

    def ask(path: str, **words: str) -> Any:
        try:
            return httpx.get(f"http://{at}/api/v1/{path}", params=words, timeout=10).json()["data"]
        except (httpx.HTTPError, ValueError):
            assert server.poll() is None, (folder / "log").read_text()
            return {}

    node = ray.nodes()[0]
    figures = f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"  # Ray lists more, and this one not at once
    try:
        wait(lambda: (figures, "up") in [(t["labels"]["instance"], t["health"]) for t in _targets(ask)])
        yield ask
    finally:
        server.terminate()
        server.wait(60)


def _targets(ask: Ask) -> list[Any]:
    return ask("targets").get("activeTargets", [])


def wait(until: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (seen := until()):
        assert time.monotonic() < end, "it was never seen"
        time.sleep(0.5)
    return seen


@pytest.fixture(scope="module")
def told(ask: Ask) -> Ask:
    """A driver that told of a run to its end, and left."""
    address = ray.get_runtime_context().gcs_address
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", DRIVER, address], env=os.environ | path, check=True, timeout=240)
    return ask


def test_the_last_figure_of_a_driver_that_left_is_scraped_and_its_alert_fires(told: Ask) -> None:
    (code,) = wait(lambda: told("query", query="last_over_time(ray_seal_exit_code[15m])").get("result"))
    assert code["value"][1] == "5"

    def firing() -> dict[str, Any]:
        alerts = [a for a in told("alerts").get("alerts", []) if a["state"] == "firing"]
        return {a["labels"]["alertname"]: a for a in alerts}

    wait(lambda: "BudgetSpent" in firing())
    by_name = firing()
    assert "RunEndedInError" not in by_name
    assert by_name["BudgetSpent"]["annotations"]["summary"].startswith("runs/default")


def test_every_alert_and_every_panel_is_answered(told: Ask) -> None:
    groups = wait(lambda: told("rules").get("groups"))
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    dashboard = json.loads((CLUSTER / "kubernetes/components/monitoring/grafana.json").read_text())
    for expression in [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", [])]:
        plain = expression.replace("$run", ".*").replace("$__rate_interval", "1m")
        assert "$" not in plain, plain
        assert told("query", query=plain)["resultType"] == "vector", plain


QUIET = """
import ray, sys, time
from seal_ray.config import Config
from seal_ray.events import RunStarted, WaitingFor
from seal_ray.observe.metrics import RayMetrics
ray.init(address=sys.argv[1], log_to_driver=False)
sink = RayMetrics(Config.model_validate({"run": {"uri": "runs/quiet"}}))
now = time.time()
sink(RunStarted("runs/quiet", 1, 2, 1, False, time=now))
sink(WaitingFor("a node", "none is free", 600.0, time=now))
print("told", flush=True)
time.sleep(600)
"""


def test_the_figures_of_a_driver_that_tells_nothing_stay_until_it_is_gone(ask: Ask) -> None:
    address = ray.get_runtime_context().gcs_address
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, "-c", QUIET, address], env=env, stdout=subprocess.PIPE)
    waits = 'ray_seal_waiting{run="runs/quiet"} == 1'
    try:
        assert driver.stdout and driver.stdout.readline() == b"told\n"
        wait(lambda: ask("query", query=waits).get("result"))
        time.sleep(45)  # Ray's agent forgets after 20 what it is not told again
        assert ask("query", query=waits)["result"], "what an alert waits ten minutes for is gone"
    finally:
        driver.kill()
        driver.wait()
    wait(lambda: not ask("query", query=waits)["result"])
