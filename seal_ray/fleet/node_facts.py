"""What a node says of itself: its GPUs, leftovers of runs, room on disks, and whether it can talk to the others.

Every function here runs on the node in question, as a task.
"""

import os
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from seal_ray.cache_folder import default_root
from seal_ray.errors import InfraError
from seal_ray.fleet.marked_processes import MARK

SMI_SECONDS = 30
# the oldest branch of NVIDIA's driver for a major version of CUDA (its release notes: minor version compatibility)
OLDEST_DRIVER = {"11": 450, "12": 525, "13": 580}


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver shows it, in bytes; 0 where it does not tell (one that shares the machine's memory)."""

    name: str
    free: float
    total: float
    driver: str = ""

    @property
    def outdated(self) -> str:
        """Why this node's torch can't use the GPU's driver; nothing where it can, or where that isn't known."""
        import torch

        cuda = (torch.version.cuda or "").partition(".")[0]
        least = OLDEST_DRIVER.get(cuda, 0)
        branch = self.driver.partition(".")[0]
        if branch.isdigit() and int(branch) < least:
            return f"driver {self.driver} is too old for CUDA {cuda}, which needs {least} or newer"
        return ""


def gpus() -> list[Gpu]:
    """This node's GPUs; raises where nothing can be asked about them."""
    query = ["nvidia-smi", "--query-gpu=name,memory.free,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=SMI_SECONDS, check=True)
    except FileNotFoundError:
        raise InfraError("nvidia-smi is not there", hint="start containers with NVIDIA's runtime") from None
    except (subprocess.SubprocessError, OSError) as error:
        raise InfraError(f"nvidia-smi fails ({error})", hint="restart the node, or renew its GPU driver") from None
    cards = [read_gpu(line) for line in done.stdout.splitlines() if line.strip()]
    for card in cards:
        if card.outdated:
            raise InfraError(card.outdated, hint="install a newer driver there, or use an image with an older CUDA")
    return cards


def read_gpu(line: str) -> Gpu:
    name, *memory, driver = (part.strip() for part in line.rsplit(",", 3))
    try:
        free, total = (float(part) * 2**20 for part in memory)
    except ValueError:  # [N/A], [Insufficient Permissions]
        free = total = 0.0
    return Gpu(name, free, total, driver)


# leftovers


def orphans(alive: Collection[int]) -> list[str]:
    """Processes of ours that no driver looks after any more; `alive` are the actors that the cluster knows here.

    A process is ours if it carries a lease's mark, or is an engine of vLLM's that has lost its parent. It is looked
    after if it descends from an actor that is alive, or from another cluster's Ray on this machine.
    """
    own_ray = os.getppid()
    lines = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        try:
            ancestors = _ancestors(pid)
            why = _lost(pid, ancestors, own_ray, alive)
            if why:
                lines.append(f"process {pid} ({_title(pid)[:60]}, {_memory(pid) / 1e9:.1f} GB): {why}")
        except (OSError, ValueError, IndexError):
            continue  # it ended meanwhile, or is another user's
    return lines


def _lost(pid: int, ancestors: list[int], own_ray: int, alive: Collection[int]) -> str:
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    if any(word.startswith(f"{MARK}=".encode()) for word in environment):
        if own_ray in ancestors:
            return "" if {pid, *ancestors} & set(alive) else "its actor is dead"
        return "" if any(_name(a) == "raylet" for a in ancestors) else "its Ray is gone"
    # vLLM renames its processes, which may write over their environment
    return "its engine is gone" if _title(pid).startswith("VLLM::") and ancestors in ([], [1]) else ""


def _ancestors(pid: int) -> list[int]:
    out: list[int] = []
    while True:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        if pid == 0:
            return out
        out.append(pid)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def _memory(pid: int) -> float:
    return float(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# room


def room(*folders: str) -> list[tuple[str, int, int]]:
    """Of each folder, or of what will hold it: the path, and how many bytes are free and there at all."""
    out = []
    for folder in folders:
        path = Path(folder).expanduser().absolute()
        while not path.exists():
            path = path.parent
        usage = shutil.disk_usage(path)
        out.append((str(path), usage.free, usage.total))
    return out


def room_for_models(cache: str) -> list[tuple[str, int, int]]:
    """The same of this node's folder of models (empty: its own one) and of its shared memory."""
    return room(cache or str(default_root()), "/dev/shm")


# talking to each other


def address() -> str:
    """Where the first of a group can be met: this node's address and a free port."""
    import socket

    import ray

    with socket.socket() as free:
        free.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"


def all_reduce(place: str, world: int, backend: str, seconds: float, rank: int) -> float:
    """The sum of all ranks' numbers (1, 2, …), by the same libraries that training uses."""
    import torch
    import torch.distributed as dist

    dist.init_process_group(
        backend, init_method=f"tcp://{place}", rank=rank, world_size=world, timeout=timedelta(seconds=seconds)
    )
    try:
        value = torch.tensor([rank + 1.0], device="cuda" if backend == "nccl" else "cpu")
        dist.all_reduce(value)
        return float(value)
    finally:
        dist.destroy_process_group()


def canary(device: str) -> str:
    """Train an adapter on the tiny model, hand it to vLLM, and see that vLLM answers with it and not without.

    Raises where the adapter changes nothing, or not what it changed in training.
    """
    from seal_ray import inner, models
    from seal_ray.config import ModelSection
    from seal_ray.records import Example, Recipe
    from seal_ray.sampling.engine import EngineSettings
    from seal_ray.trials.engine_answerer import EngineAnswerer

    folder = models.fetch(ModelSection(name="builtin:tiny"))
    dtype = "bfloat16" if device == "gpu" else "float32"  # vLLM's adapters on a GPU take 16 bits only
    model: Any = models.load(folder, dtype=dtype, device="cuda" if device == "gpu" else "cpu")
    ids = tuple(range(100, 140))
    bank = inner.fit(model, [[Example(ids, (True,) * len(ids))]], [Recipe(rank=4, alpha=8, epochs=60, lr=2e-2)], [1])
    settings = EngineSettings(
        device="gpu" if device == "gpu" else "cpu",
        dtype=dtype,
        max_length=256,
        lora_rank=8,
        kv_cache_gb=0.1,
        gpu_memory=0.1,
        brief=True,
    )
    answerer = EngineAnswerer(folder, settings)
    try:
        sampling = inner.Sampling(max_tokens=8, eos_ids=(2,))
        (((sample,),),) = answerer.answer(bank, [[ids[:4]]], sampling)
    finally:
        answerer.close()
    learned = sum(a == b for a, b in zip(sample.ids, ids[4:], strict=False))
    if not learned:
        raise InfraError("vLLM answers nothing of what the adapter was taught", hint="set answering.how: bank")
    return f"vLLM answers {learned} of {len(sample.ids)} tokens as the adapter was taught"
