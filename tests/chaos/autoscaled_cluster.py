"""A Ray head whose autoscaler (Ray's second) starts and ends nodes on this machine, through Ray's fake provider."""

import json
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from seal_ray.config import PlacementSection
from seal_ray.fleet import cluster

MARK = "SEAL_RAY_TEST_CLUSTER"
PORT = 6379  # where the fake provider's nodes look for their head, whatever one tells them
SPEC = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 2,
}


def config(most: int, each: dict[str, float], idle_seconds: float) -> dict[str, Any]:
    """What Ray's own AutoscalingCluster makes of a file that its wheel does not bring along."""
    worker = {"resources": {**each, "object_store_memory": 10**8}, "node_config": {}, "max_workers": most}
    return {
        "cluster_name": "autoscaled",
        "max_workers": most,
        "upscaling_speed": 100,
        "idle_timeout_minutes": idle_seconds / 60,
        "provider": {
            "type": "external",  # by its own name it would look for the file that the wheel has not
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
            "worker": {**worker, "min_workers": 0},
        },
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "initialization_commands": [],
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "auth": {},
        "docker": {},
        "head_node": {},
        "worker_nodes": {},
    }


def processes(mark: str) -> list[int]:
    out = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"{MARK}={mark}".encode() in Path(f"/proc/{entry.name}/environ").read_bytes().split(b"\0"):
                    out.append(int(entry.name))
            except OSError:
                continue
    return out


def raylets_of(node: str) -> list[int]:
    """Process ids of a node's raylet."""
    out = []
    for entry in os.scandir("/proc"):
        try:
            words = Path(f"/proc/{entry.name}/cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"raylet/raylet" in words and f"--node_id={node}".encode() in words:
            out.append(int(entry.name))
    return out


@contextmanager
def autoscaled(most: int, each: dict[str, float], *, idle_seconds: float = 6, join: bool = True) -> Iterator[str]:
    """The address of a head without resources; up to `most` nodes with `each` come when something asks for them."""
    assert not ray.is_initialized(), "this process has joined another cluster, and would stay there"
    mark = uuid.uuid4().hex
    folder = tempfile.mkdtemp(prefix="autoscaled-")
    path = Path(folder, "cluster.json")
    path.write_text(json.dumps(config(most, each, idle_seconds)))
    environment = {
        **os.environ,
        MARK: mark,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        # the first autoscaler tells nodes by their address, which fake ones share: idle ones never left
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "disabled"),  # as this process, which it calls back
    }
    if environment["RAY_AUTH_MODE"] == "token":
        subprocess.run(["ray", "get-auth-token", "--generate"], env=environment, capture_output=True, check=True)
    command = [
        "ray",
        "start",
        "--head",
        "--disable-usage-stats",
        f"--port={PORT}",
        f"--autoscaling-config={path}",
    ]
    command += ["--num-cpus=0", "--num-gpus=0", "--include-dashboard=false", f"--system-config={json.dumps(SPEC)}"]
    command += [f"--temp-dir={folder}/ray"]
    try:
        said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert said.returncode == 0, said.stdout + said.stderr
        address = f"127.0.0.1:{PORT}"
        if join:
            cluster.connect(PlacementSection(address=address))
        yield address
    finally:
        ray.shutdown()
        until = time.monotonic() + 30
        while (left := processes(mark)) and time.monotonic() < until:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.2)
