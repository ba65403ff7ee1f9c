"""A full update over two nodes of which one does not see the driver's folders: it fetches the weights from the run."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from update_jobs import Sink, job

from seal_ray.config import StorageSection
from seal_ray.events import ActorChanged
from seal_ray.models import shared
from seal_ray.models.shared import KeptAt
from seal_ray.policy.update import update
from seal_ray.storage.ledger import Ledger

pytestmark = pytest.mark.slow


@pytest.fixture
def hidden(tmp_path: Path) -> Iterator[Path]:
    """A folder that only the first of two nodes has: on the other, nothing is there."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("hiding a folder from a node needs root and unshare")
    folder = tmp_path / "driver"
    folder.mkdir()
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    address = ray.get_runtime_context().gcs_address
    start = f"{Path(sys.executable).parent / 'ray'} start --address={address} --num-cpus=1 --block"
    words = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none {folder} && exec {start}"]
    other = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 600
        while sum(n["Alive"] for n in ray.nodes()) < 2:
            assert other.poll() is None and time.monotonic() < until, "the second node did not come up"
            time.sleep(0.2)
        yield folder
    finally:
        ray.shutdown()
        other.terminate()
        other.wait(60)


def kept(run: Path, folder: str) -> KeptAt:
    """A run that both nodes see and that keeps these weights."""
    ledger = Ledger(str(run))
    ledger.create({}, {}, 1)
    ledger.acquire("the test")
    ledger.round(1).put_dir("version", folder)
    ledger.close()
    return KeptAt(str(run), StorageSection(), 1, "version")


def test_a_full_update_goes_on_from_weights_and_checkpoints_that_a_node_can_not_see(
    hidden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are shared out over both nodes (ZeRO 3), and a worker is killed in the middle."""
    settings: dict[str, Any] = {"mode": "full", "lr": 1e-3, "schedule": "constant", "zero_stage": 3}
    first = update(job(hidden / "first", epochs=2, **settings), sink=Sink())
    again: dict[str, Any] = settings | {"epochs": 6, "checkpoint_steps": 4}
    alone = update(dataclasses.replace(job(hidden / "alone", **again), adapter=first.folder), sink=Sink())
    sink = Sink(kill=1, at=6)
    monkeypatch.setattr(shared, "LARGE", 0)  # these count as large
    at = kept(hidden.parent / "run", first.folder)
    made = job(hidden / "both", workers=2, **again)
    both = update(dataclasses.replace(made, adapter=first.folder, kept=at), sink=sink)
    assert len({e.node for e in sink.events if isinstance(e, ActorChanged)}) == 2, "both workers were on one node"
    assert both.likelihood_before == pytest.approx(first.likelihood, abs=1e-4), "it began from other weights"
    steps = sink.steps()
    resumed = next(n for n, before in zip(steps[1:], steps, strict=False) if n <= before)
    assert both.attempts == 2 and resumed % 4 == 1 and resumed > 1, "it began again instead of going on"
    assert both.losses == pytest.approx(alone.losses, abs=2e-3)
    assert alone.drift is not None and alone.drift > 0
    assert both.drift == pytest.approx(alone.drift, abs=1e-3)
