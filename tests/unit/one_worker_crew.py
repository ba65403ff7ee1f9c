"""A crew of one real worker in this process, where a test is not about what Ray does. It has no sampler."""

import time
from collections.abc import Iterable
from typing import Any

from seal_ray.config import Config
from seal_ray.fleet.wave_messages import WaveLease
from seal_ray.fleet.worker import Worker, WorkerSettings
from seal_ray.records import Attempt, Trial, Version


class OneWorkerCrew:
    overlap = False

    def __init__(self, config: Config, *_: Any) -> None:
        settings = WorkerSettings(config.model, config.storage, config.inner, config.answering, threads=1)
        self._worker, self._version = Worker("here", settings), ""
        self._waiting: list[Attempt] = []

    def pool(self, version: Version, adapter: str | None) -> "OneWorkerCrew":
        self._version = self._worker.load_version(version, adapter)
        return self

    def submit(self, attempts: Iterable[Attempt]) -> None:
        self._waiting += attempts

    def poll(self, timeout: float) -> list[Trial]:
        if not self._waiting:
            time.sleep(min(timeout, 0.01))  # graders have their turn
            return []
        wave, self._waiting = tuple(self._waiting), []
        return self._worker.try_wave(WaveLease(0, self._version, wave))

    def room(self) -> int:
        return 64

    def expect(self, count: int) -> None: ...
    def flush(self) -> None: ...
    def plan_anew(self) -> None: ...
    def release(self, *roles: str) -> None: ...
    def close(self) -> None: ...
    def gpu_hours(self) -> float:
        return 0.0
