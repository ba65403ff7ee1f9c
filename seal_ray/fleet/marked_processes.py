"""The proof that a role's processes are gone and its GPUs free, node by node.

Every process of a role carries a mark in its environment, and so do the processes that it starts: Ray ends an actor
with its placement group, but not what the actor has started in a session of its own. Some programs write over their
environment, so on GPUs the device's memory must be seen free as well.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from seal_ray.errors import InfraError
from seal_ray.fleet import cluster

MARK = "SEAL_RAY_LEASE"
FORCE_AFTER = 5.0  # seconds that processes of a dead actor get to end by themselves
SMI_SECONDS = 30
FREE = 0.1  # a GPU on which less than this share of its memory is in use is free


def prove_gone(mark: str, gpus: Mapping[str, Sequence[str]], deadline: float) -> None:
    """Wait until nothing with this mark is left on these nodes, and their GPUs (by node) are free; raises with what is.

    Processes that outlive their actor are ended. Nodes that are gone themselves hold nothing.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = ray.remote(num_cpus=0, max_retries=0)(left_on_node)
    began = time.monotonic()
    names = {n.id: n.name for n in cluster.resources()}
    todo = gpus.keys() & names.keys()
    left: dict[str, list[str]] = {}
    while todo:
        force = time.monotonic() - began > min(FORCE_AFTER, deadline / 2)
        asked = {
            node: probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                mark, list(gpus[node]), force
            )
            for node in todo
        }
        answered, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=max(5.0, deadline))
        for node, ref in asked.items():
            try:
                left[node] = ray.get(ref) if ref in answered else ["the node does not answer"]
            except RayError as error:
                left[node] = [f"the node does not answer: {type(error).__name__}"]
        todo = {n for n in todo if left[n]} & {n.id for n in cluster.resources()}
        if todo and time.monotonic() - began > deadline:
            what = "; ".join(f"{names[n]}: {', '.join(left[n])}" for n in sorted(todo))
            raise InfraError(
                f"placement: what was held is not free after {deadline:g} s: {what}",
                hint="end these processes, or restart the nodes they are on",
            )
        if todo:
            time.sleep(0.2)


def left_on_node(mark: str, gpus: Sequence[str], force: bool) -> list[str]:
    """What is not free yet on this node."""
    return processes_of(mark, force) or busy_gpus(gpus)


def processes_of(mark: str, force: bool) -> list[str]:
    """The processes on this node that carry a mark; `force` ends them."""
    left = []
    needle = f"{MARK}={mark}".encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry.name}/environ", "rb") as file:
                if needle not in file.read().split(b"\0"):
                    continue
            with open(f"/proc/{entry.name}/cmdline", "rb") as file:
                command = file.read(200).replace(b"\0", b" ").decode(errors="replace").strip()
            if force:
                os.kill(int(entry.name), signal.SIGKILL)
            left.append(f"process {entry.name} ({command[:60] or 'ending'})")
        except (OSError, ValueError):
            continue  # it ended meanwhile, or is another user's
    return left


def busy_gpus(gpus: Sequence[str]) -> list[str]:
    """Which of these GPUs (index or UUID) still hold somebody's memory. Empty where nobody can be asked."""
    if not gpus:
        return []
    query = ["nvidia-smi", f"--id={','.join(gpus)}", "--query-gpu=index,memory.used,memory.total"]
    try:
        done: Any = subprocess.run(
            [*query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=SMI_SECONDS, check=True
        )
    except (subprocess.SubprocessError, OSError):
        return []
    busy = []
    for line in done.stdout.splitlines():
        index, *memory = (part.strip() for part in line.split(","))
        try:
            used, total = map(float, memory)
        except ValueError:
            continue  # [N/A]: it shares the machine's memory; [Insufficient Permissions]: a part of a card
        if used > FREE * total:
            busy.append(f"GPU {index} still holds {used / 1024:.0f} of {total / 1024:.0f} GB")
    return busy
