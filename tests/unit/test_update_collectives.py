"""What DeepSpeed makes of an update's settings, and how long every group of processes that it makes waits."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# the only worker of a group, as Ray Train starts it
WORKER = """
import datetime, json, sys
import torch
import torch.distributed as dist
from seal_ray import models
from seal_ray.config import ModelSection, PolicySection
from seal_ray.policy.deepspeed_engine import DeepSpeedEngine

place, settings = sys.argv[1], json.loads(sys.argv[2])
section = PolicySection(rank=4, dtype="float32", **settings)
patience = datetime.timedelta(seconds=section.collective_timeout)
dist.init_process_group("gloo", init_method=f"file://{place}/store", rank=0, world_size=1, timeout=patience)
made = DeepSpeedEngine(models.fetch(ModelSection(name="builtin:tiny")), None, section, 1, "cpu").engine
groups = list(dist.distributed_c10d._world.pg_map)
waits = [group._get_backend(torch.device("cpu")).options._timeout.total_seconds() for group in groups]
told = {
    "waits": waits,
    "stage": made.zero_optimization_stage(),
    "on_cpu": made.zero_cpu_offload(),
    "clip": made.gradient_clipping(),
    "decay": [group["weight_decay"] for group in made.optimizer.param_groups],
}
open(f"{place}/told", "w").write(json.dumps(told))
"""


@pytest.mark.parametrize("stage", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_deepspeed_shards_offloads_clips_decays_and_waits_as_configured(tmp_path: Path, stage: int) -> None:
    settings: dict[str, Any] = {"zero_stage": stage, "offload": "cpu", "clip": 0.5, "weight_decay": 0.25}
    settings["collective_timeout"] = 7
    command = [sys.executable, "-c", WORKER, str(tmp_path), json.dumps(settings)]
    env = os.environ | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((tmp_path / "told").read_text())
    assert (told["stage"], told["on_cpu"], told["clip"], set(told["decay"])) == (stage, True, 0.5, {0.25})
    assert len(told["waits"]) > 1, "DeepSpeed makes groups of its own beside the first one"
    assert set(told["waits"]) == {7.0}
