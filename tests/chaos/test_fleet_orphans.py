"""A driver that is killed leaves no process of its workers and samplers behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seal_ray.fleet.marked_processes import MARK

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, time
from seal_ray import models
from seal_ray.config import Config
from seal_ray.fleet.crew import Crew
from seal_ray.records import Version
config = Config.model_validate({
    "model": {"name": "builtin:tiny", "dtype": "float32", "max_length": 256},
    "placement": {"address": "local", "heartbeat": 1}, "sampling": {"kv_cache_gb": 0.1},
})
crew = Crew(config, models.fetch(config.model), lambda e: None)
version = Version(0, "v0", models.digest_of(models.fetch(config.model)))
samplers, pool = crew.samplers(version, None), crew.pool(version, None)
while True:
    samplers.poll(0.1), pool.poll(0.1)
    if samplers._group.idle() and pool._group.idle():
        print("ready", crew.held.reservations.run, flush=True)
        break
while True:
    samplers.poll(0.5), pool.poll(0.5)
"""


def marked(token: str) -> list[int]:
    """Processes that carry a mark of this run."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                environment = Path(f"/proc/{entry.name}/environ").read_bytes()
            except OSError:
                continue
            if f"{MARK}={token}".encode() in environment:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_driver_that_is_ended(number: signal.Signals) -> None:
    driver = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert driver.stdout
        word, token = driver.stdout.readline().split()
        assert word == "ready" and len(marked(token)) >= 2
        driver.send_signal(number)
        driver.wait()
        until = time.monotonic() + 300
        while left := marked(token):
            assert time.monotonic() < until, f"still alive: {left}"
            time.sleep(0.5)
    finally:
        driver.kill()
