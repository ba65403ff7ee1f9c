"""What a device holds: the memory that is free on it, how many slots fit, and which errors say that it was too much."""

import ctypes
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from seal_ray.inner.memory import BankSetup, slots_for
from seal_ray.records import Example, Recipe
from seal_ray.shapes import Shape

CPU_SHARE = 0.5  # of free main memory: a node's other processes want some too
GPU_SHARE = 0.85  # of a device's free memory: the rest goes to fragments
CGROUP = Path("/sys/fs/cgroup")
# of control groups in their second form and in their first: limit, what is used, and how much of that is unread files
CONTAINER_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
FULL = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch, CUDA's libraries and the system each say it in another way."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in FULL)


def fitting_slots(
    device: torch.device,
    shape: Shape,
    train_sets: Sequence[Sequence[Example]],
    recipes: Sequence[Recipe],
    *,
    dtype_bytes: int,
    gradient_bytes: int,
    tokens_limit: int,
) -> int:
    """How many of these candidates are trained at once: as many as fill a forward and fit into what is free now."""
    step_tokens = [
        statistics.mean(max(len(e.ids), r.pad_to) for e in texts) * r.batch_size * r.accumulation
        for texts, r in zip(train_sets, recipes, strict=True)
    ]
    longest = max(max(len(e.ids), r.pad_to) for texts, r in zip(train_sets, recipes, strict=True) for e in texts)
    setup = BankSetup(
        dtype_bytes=dtype_bytes,
        rank=max(r.rank for r in recipes),
        targets=tuple({t for r in recipes for t in r.targets}),
        device=device.type,
        step_tokens=statistics.mean(step_tokens),
        tokens_limit=tokens_limit,
        moments=recipes[0].moments,  # all have the same
        gradient_bytes=gradient_bytes,
    )
    share = CPU_SHARE if device.type == "cpu" else GPU_SHARE
    return slots_for(free_memory(device), shape, setup, longest=longest, candidates=len(train_sets), share=share)


def free_memory(device: torch.device) -> int:
    """Bytes that can really be had: what is free, and what this process keeps unused."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free, total = torch.cuda.mem_get_info(device)
        # a worker that shares its device may be allowed less than what is free
        allowed = torch.cuda.get_per_process_memory_fraction() * total - torch.cuda.memory_reserved(device)
        return int(min(free, allowed)) + unused
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return min([free, *_left_in_container(CGROUP)]) + kept_unused()


def _left_in_container(cgroup: Path) -> Iterator[int]:
    """What a container's limit leaves, where there is one: files that nobody reads any more make room when asked to."""
    for limit, used, statistics_file, unread in CONTAINER_FILES:
        if (cgroup / limit).exists() and (cgroup / limit).read_text().strip() != "max":
            told = (cgroup / statistics_file).read_text().splitlines() if (cgroup / statistics_file).exists() else []
            files = sum(int(line.split()[1]) for line in told if line.split()[0] == unread)
            yield int((cgroup / limit).read_text()) - int((cgroup / used).read_text()) + files


class _Heap(ctypes.Structure):
    """What glibc's `mallinfo2` gives."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names)


def kept_unused() -> int:
    """Bytes that were given back to glibc and not by glibc to the system; a bank's next step has them first."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return 0  # another C library, which keeps little
    ask.restype = _Heap
    return int(ask().fordblks)
