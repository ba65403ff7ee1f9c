"""What all crews have in common that stand where a cluster is: nothing to lease, and work that waits in a list."""

from collections.abc import Iterable, Sequence
from typing import Any

from seal_ray.records import Attempt, Edit
from seal_ray.sampling.sampler import EditPrompt


class StandInCrew:
    overlap = False  # whether samplers and pool are there at the same time

    def trainers(self) -> dict[str, Any]:
        return {}

    def plan_anew(self) -> None: ...

    def release(self, *roles: str) -> None: ...

    def close(self) -> None: ...

    def gpu_hours(self) -> float:
        return 0.0


class WaitingChunks:
    """Chunks of prompts that wait until somebody asks for their edits: one chunk at a time."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, list[EditPrompt]]] = []

    def submit(self, chunk_id: str, chunk: Sequence[EditPrompt]) -> None:
        self._waiting.append((chunk_id, list(chunk)))

    def poll(self, _timeout: float) -> list[tuple[str, list[Edit]]]:
        if not self._waiting:
            return []
        chunk_id, chunk = self._waiting.pop(0)
        return [(chunk_id, self.write(chunk))]

    def write(self, chunk: Sequence[EditPrompt]) -> list[Edit]:
        raise NotImplementedError


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
