"""A crew in one process: real models and banks, and nobody to lease them to. It has no sampler.

It stands where Ray is: for tests of what a loop does with its crew, and of what a killed driver leaves.
"""

from typing import Any

from stand_in_crew import StandInCrew, WaitingPool

from seal_ray import models
from seal_ray.config import Config
from seal_ray.records import Attempt, Trial, Version
from seal_ray.trials.wave import try_wave


class BankCrew(StandInCrew, WaitingPool):
    """Tries whatever it is given at once, in this process."""

    def __init__(self, config: Config, folder: str, tell: Any = None) -> None:
        super().__init__()
        self.config, self.folder = config, folder
        self.tried: list[Attempt] = []
        self._version: tuple[str, str | None] | None = None
        self._model: Any = None
        self._tokenizer = models.tokenizer(folder)

    def pool(self, version: Version, adapter: str | None) -> "BankCrew":
        if self._version != (version.digest, adapter):
            self._model = models.load(self.folder, dtype="float32", device="cpu", adapter=adapter)
            self._version = (version.digest, adapter)
        return self

    def poll(self, timeout: float) -> list[Trial]:
        attempts, self._waiting = self._waiting, []
        self.tried += attempts
        return try_wave(self._model, self._tokenizer, attempts) if attempts else []

    def samplers(self, version: Version, adapter: str | None) -> Any:
        raise AssertionError("nothing is sampled here")
