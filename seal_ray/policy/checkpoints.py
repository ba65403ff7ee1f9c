"""What a full update goes on from after it lost a worker. An update of an adapter is short and starts again instead.

Checkpoints lie beside the output, on the node of the update's actor. Workers that all see that folder write there;
where one does not, each writes on its own node and hands its files to the actor, and fetches them from it.
DeepSpeed's are pickles: one is read back only if it is, byte for byte, what this same update wrote.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal_ray.config import PolicySection
from seal_ray.errors import InfraError
from seal_ray.policy.signs_of_life import signs_of_life
from seal_ray.policy.version_files import PIECE, pieces

if TYPE_CHECKING:
    from seal_ray.policy.training import TrainingEngine


class Checkpoints:
    """The checkpoints of one update. All workers call its methods together."""

    def __init__(self, engine: "TrainingEngine", folder: str, section: PolicySection, desk: Any) -> None:
        self.engine, self.desk = engine, desk
        self.every = section.checkpoint_steps if section.mode == "full" else 0
        self.shared = all(engine.gather(Path(folder).is_dir())) if self.every else True
        self._own = None if self.shared else tempfile.TemporaryDirectory(prefix="seal-ray-checkpoint-")
        self.folder = Path(self._own.name if self._own else folder)

    def after(self, step: int) -> None:
        """Called after each step: makes a checkpoint when it is time, and only then drops the one before."""
        import ray

        if not self.every or step % self.every:
            return
        with signs_of_life(self.desk):
            tag = f"step-{step}"
            (self.folder / tag).mkdir(parents=True, exist_ok=True)
            self.engine.write(self.folder, tag)
            if not self.shared:
                self._hand_over(tag)
            self.engine.gather(None)  # all are done
            if self.engine.rank == 0:
                ray.get(self.desk.keep.remote("checkpoint", (step, ray.get(self.desk.digest.remote(tag)))))
                ray.get(self.desk.drop_others.remote(tag))
            if not self.shared:
                shutil.rmtree(self.folder / tag, ignore_errors=True)

    def resume(self) -> int:
        """The step to go on from: 0, or that of the last checkpoint, which is then loaded."""
        import ray

        kept: dict[str, Any] = ray.get(self.desk.kept.remote())  # type: ignore[assignment]
        if not self.every or "checkpoint" not in kept:
            return 0
        step, digest = kept["checkpoint"]
        tag = f"step-{step}"
        with signs_of_life(self.desk):
            if not self.shared:
                self._fetch(tag)
            if digest_of(self.folder / tag) != digest:
                raise InfraError(f"{self.folder}: the checkpoint of step {step} has changed since it was written")
            self.engine.read(self.folder, tag)
        return step

    def _hand_over(self, tag: str) -> None:
        import ray

        for path in sorted((self.folder / tag).iterdir()):
            for offset, data in pieces(path):
                ray.get(self.desk.put_piece.remote(tag, path.name, offset, data))

    def _fetch(self, tag: str) -> None:
        import ray

        (self.folder / tag).mkdir(parents=True, exist_ok=True)
        sizes: dict[str, int] = ray.get(self.desk.checkpoint_files.remote(tag))  # type: ignore[assignment]
        for name, size in sizes.items():
            with open(self.folder / tag / name, "wb") as file:
                for offset in range(0, size, PIECE):
                    file.write(ray.get(self.desk.get_piece.remote(tag, name, offset, PIECE)))  # type: ignore[arg-type]


def digest_of(folder: Path) -> str:
    """The name of what a checkpoint holds."""
    lines = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        with open(path, "rb") as file:
            lines.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return lines.hexdigest()
