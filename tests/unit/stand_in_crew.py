"""What all crews have in common that stand where a cluster is: nothing to lease, and work that waits in a list."""

from collections.abc import Iterable, Sequence
from typing import Any

from seal_ray.policy.job import UpdateJob, UpdateResult
from seal_ray.records import Attempt, Edit


class StandInCrew:
    overlap = False  # whether samplers and pool are there at the same time

    def trainers(self) -> dict[str, Any]:
        return {}

    def plan_anew(self) -> None: ...

    def release(self, *roles: str) -> None: ...

    def close(self) -> None: ...

    def gpu_hours(self) -> float:
        return 0.0


class WaitingPool:
    """Attempts that wait until somebody asks for their trials."""

    most = 64  # that wait at once

    def __init__(self) -> None:
        self._waiting: list[Attempt] = []

    def submit(self, attempts: Iterable[Attempt]) -> None:
        self._waiting += attempts

    def room(self) -> int:
        return max(0, self.most - len(self._waiting))

    def expect(self, count: int) -> None: ...

    def flush(self) -> None: ...


class WrittenChunks:
    """Samplers whose edits are there as soon as they are asked for, and are handed over chunk by chunk."""

    def __init__(self) -> None:
        self._written: list[tuple[str, list[Edit]]] = []

    def poll(self, timeout: float) -> Sequence[tuple[str, list[Edit]]]:
        return [self._written.pop(0)] if self._written else []


def updated(job: UpdateJob, **known: Any) -> UpdateResult:
    """What an update tells, where its figures are made up."""
    made_up: dict[str, Any] = {
        "folder": job.output, "kind": "adapter", "rank": job.section.rank, "steps": 1, "losses": (1.0,), "log": (),
        "seconds": 0.1, "kl": 0.1, "drift": 0.1, "entropy": 1.0, "entropy_before": 1.1, "likelihood": (),
        "likelihood_before": (), "validation_losses": (), "left_out": (), "held_back": (), "edits": (), "recipe": {},
        "environment": {},
    }  # fmt: skip
    return UpdateResult(**made_up | known)
