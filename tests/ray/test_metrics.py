"""The run's figures, scraped from a real Ray node's endpoint as Prometheus would."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import ray
from made_events import make
from tiny_policy import base_folder

from seal_ray.config import Config
from seal_ray.events import (
    ActorChanged,
    EditsSampled,
    EditsSelected,
    GateDecided,
    Graded,
    PhaseEnded,
    RewardsMade,
    RoundCommitted,
    RoundStarted,
    RunEnded,
    StoreRetried,
    TrialDone,
    TrialFailed,
    UpdateStep,
    Warned,
    WaveDone,
)
from seal_ray.observe.metrics import METRICS, RayMetrics
from seal_ray.sampling.engine import EngineSettings, GenerateRequest

ARM = {"accuracy": {"mean": 0.25, "error": 0.02, "n": 3}, "likelihood": {"mean": -1.5, "error": 0.1, "n": 3}}
EVENTS = [
    make(RoundStarted, 1, 1.0, tasks=2, edits=2),
    make(ActorChanged, 1, 1.5, worker="w0", node="n", role="worker", state="healthy"),
    make(EditsSampled, 1, 2.0, task="a", edits=2, failed=1),
    make(TrialDone, 1, 3.0, arm="baseline", seconds=1.0, likelihood=-3.0),
    make(TrialDone, 1, 4.0, arm="edit", seconds=2.0, likelihood=-2.0),
    make(TrialFailed, 1, 5.0, failure="nan_loss", message="", blame="data"),
    make(WaveDone, 1, 5.0, worker="w0", candidates=2, seconds=4.0, occupied=0.5),
    make(Graded, 1, 5.5, grader="lexical", verdicts=5, failed=1, calls=2, cost=0.5),
    make(PhaseEnded, 1, 6.0, phase="trials", seconds=7.5),
    make(RewardsMade, 1, 7.0, arms={"base": ARM}, reliability={"accuracy": 0.4}, coverage=0.9),
    make(EditsSelected, 1, 7.5, choices=1, kept=ARM),
    make(UpdateStep, 1, 8.0, step=1, steps=2, loss=1.25),
    make(GateDecided, 1, 9.0, decision="accept"),
    make(StoreRetried, 1, 9.0, operation="put", uri="s3://x", attempt=1, error="503"),
    make(Warned, 1, 9.0, message="x"),
    make(RoundCommitted, 1, 10.0, version=1),
    make(RunEnded, 1, 11.0, outcome="BudgetSpent"),
]


Page = dict[str, list[tuple[dict[str, str], float]]]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Callable[[str], Page]]:
    """Reads what a node's endpoint says once a name is there: name -> labels and values."""
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80_000_000,
        _system_config={"metrics_report_interval_ms": 500},
    )
    try:
        node = ray.nodes()[0]
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"

        def read(name: str) -> Page:
            deadline = time.monotonic() + 60
            text = ""
            while time.monotonic() < deadline and name not in text:
                time.sleep(0.5)
                try:
                    text = httpx.get(url, timeout=5).text
                except httpx.HTTPError:
                    continue
            return parse(text)

        yield read
    finally:
        ray.shutdown()


@pytest.fixture(scope="module")
def page(endpoint: Callable[[str], Page]) -> Page:
    sink = RayMetrics(Config())
    for event in EVENTS:
        sink(event)
    endpoint("ray_seal_exit_code")  # the last to be told; the next report has whatever was told before it
    return endpoint("ray_seal_exit_code")


def parse(text: str) -> Page:
    found: Page = {}
    for line in text.splitlines():
        match = re.match(r"(\w+)\{(.*)\} (\S+)$", line)
        if match:
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
            found.setdefault(match[1], []).append((labels, float(match[3])))
    return found


def value(page: Page, name: str, **labels: str) -> float:
    rows = [v for have, v in page.get(name, []) if labels.items() <= have.items()]
    assert len(rows) == 1, f"{name} {labels}: {page.get(name)}"
    return rows[0]


def test_every_metric_is_on_the_endpoint_with_its_value(page: Page) -> None:
    assert value(page, "ray_seal_trials_total", kind="edit", outcome="ok") == 1
    assert value(page, "ray_seal_trials_total", outcome="nan_loss") == 1
    assert value(page, "ray_seal_trial_seconds_sum", kind="edit") == 2
    assert value(page, "ray_seal_edits_total", outcome="failed") == 1
    assert value(page, "ray_seal_verdicts_total", grader="lexical", outcome="ok") == 4
    assert value(page, "ray_seal_judge_calls_total", grader="lexical") == 2
    assert value(page, "ray_seal_judge_dollars_total", grader="lexical") == 0.5
    assert value(page, "ray_seal_phase_seconds_total", phase="trials") == 7.5
    assert value(page, "ray_seal_occupied_share", worker="w0") == 0.5
    assert value(page, "ray_seal_workers") == 1
    assert value(page, "ray_seal_arm", arm="base", measure="accuracy") == 0.25
    assert value(page, "ray_seal_arm", arm="kept", measure="likelihood") == -1.5
    assert value(page, "ray_seal_reliability", measure="accuracy") == 0.4
    assert value(page, "ray_seal_gate_accepted", run="runs/default") == 1
    assert value(page, "ray_seal_rounds_committed") == 1
    assert value(page, "ray_seal_exit_code") == 5
    for metric in METRICS:
        names = [f"ray_{metric.name}"] if metric.kind != "histogram" else [f"ray_{metric.name}_bucket"]
        assert any(n in page for n in names), f"{metric.name} is not on the page"


def test_dashboard_and_alerts_ask_only_for_metrics_that_exist(
    page: Page,
) -> None:
    root = Path(__file__).parents[2] / "cluster"
    dashboard = json.loads((root / "kubernetes/components/monitoring/grafana.json").read_text())
    asked = json.dumps(dashboard) + (root / "alerts.yaml").read_text()
    names = set(re.findall(r"\bray_seal_\w+", asked))
    assert len(names) > 10
    assert names <= page.keys(), f"nobody tells {sorted(names - page.keys())}"


def test_vllms_own_figures_are_beside_ours(endpoint: Callable[[str], Page]) -> None:
    class Writer:
        def write(self, folder: str, settings: EngineSettings, request: GenerateRequest) -> int:
            from seal_ray.sampling.engine import Engine

            (text,) = Engine(folder, settings).generate([request])
            return len(text.ids)

    writer: Any = ray.remote(num_cpus=1)(Writer).remote()
    settings = EngineSettings(dtype="float32", max_length=64, kv_cache_gb=0.1, metrics=True)
    request = GenerateRequest((5, 6, 7), seed=0, max_tokens=8)
    written = cast(int, ray.get(writer.write.remote(base_folder(), settings, request)))
    name, until = "ray_vllm_generation_tokens_total", time.monotonic() + 60
    while (counted := value(endpoint(name), name)) < written and time.monotonic() < until:
        pass  # that report went out while it still wrote
    assert 0 < counted == written
    ray.kill(writer)
