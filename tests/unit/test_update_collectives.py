"""How long an update's workers wait for each other: in every group of processes that DeepSpeed makes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# the only worker of a group, as Ray Train starts it
WORKER = """
import datetime, json, sys
import torch
import torch.distributed as dist
from seal_ray import models
from seal_ray.config import ModelSection, PolicySection
from seal_ray.policy.deepspeed_engine import DeepSpeedEngine

place, stage, seconds = sys.argv[1:]
patience = datetime.timedelta(seconds=float(seconds))
dist.init_process_group("gloo", init_method=f"file://{place}/store", rank=0, world_size=1, timeout=patience)
section = PolicySection(rank=4, zero_stage=int(stage), dtype="float32", collective_timeout=float(seconds))
DeepSpeedEngine(models.fetch(ModelSection(name="builtin:tiny")), None, section, 1, "cpu")
groups = list(dist.distributed_c10d._world.pg_map)
waits = [group._get_backend(torch.device("cpu")).options._timeout.total_seconds() for group in groups]
open(f"{place}/waits", "w").write(json.dumps(waits))
"""


@pytest.mark.parametrize("stage", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_no_group_of_an_update_waits_longer_than_is_configured(tmp_path: Path, stage: int) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path), str(stage), "7"]
    env = os.environ | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    waits = json.loads((tmp_path / "waits").read_text())
    assert len(waits) > 1, "DeepSpeed makes groups of its own beside the first one"
    assert set(waits) == {7.0}
