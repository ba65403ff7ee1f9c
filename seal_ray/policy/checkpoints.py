"""What a full update goes on from after it lost a worker. An update of an adapter is short and starts again instead.

Checkpoints lie in a folder beside the output, and are only made where every worker sees that folder. DeepSpeed's are
pickles: one is read back only if it is, byte for byte, what this same update wrote.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any, Protocol

from seal_ray.config import PolicySection
from seal_ray.errors import InfraError


class DeepSpeedEngine(Protocol):
    rank: int
    device: Any

    def write(self, folder: str, tag: str) -> None: ...

    def read(self, folder: str, tag: str) -> None: ...


class Checkpoints:
    """The checkpoints of one update. All workers call its methods together."""

    def __init__(self, engine: DeepSpeedEngine, folder: str, section: PolicySection, desk: Any) -> None:
        import torch
        import torch.distributed as dist

        self.engine, self.folder, self.desk = engine, Path(folder), desk
        wanted = section.checkpoint_steps if section.mode == "full" else 0
        seen = torch.tensor(int(wanted > 0 and self.folder.is_dir()), device=engine.device)
        dist.all_reduce(seen, op=dist.ReduceOp.MIN)
        self.every = wanted if int(seen) else 0

    def after(self, step: int) -> None:
        """Called after each step: makes a checkpoint when it is time, and only then drops the one before."""
        import ray
        import torch.distributed as dist

        if not self.every or step % self.every:
            return
        self.engine.write(str(self.folder), f"step-{step}")
        dist.barrier()
        if self.engine.rank == 0:
            ray.get(self.desk.keep.remote("checkpoint", (step, self._digest(step))))
            for old in self.folder.glob("step-*"):
                if old.name != f"step-{step}":
                    shutil.rmtree(old, ignore_errors=True)

    def resume(self) -> int:
        """The step to go on from: 0, or that of the last checkpoint, which is then loaded."""
        import ray

        kept: dict[str, Any] = ray.get(self.desk.kept.remote())  # type: ignore[assignment]
        if not self.every or "checkpoint" not in kept:
            return 0
        step, digest = kept["checkpoint"]
        if self._digest(step) != digest:
            raise InfraError(f"{self.folder}: the checkpoint of step {step} has changed since it was written")
        self.engine.read(str(self.folder), f"step-{step}")
        return step

    def _digest(self, step: int) -> str:
        found = hashlib.sha256()
        for path in sorted((self.folder / f"step-{step}").iterdir()):
            with open(path, "rb") as file:
                found.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return found.hexdigest()
