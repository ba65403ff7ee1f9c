"""A crew in one process: real models, banks and updates, and nobody to lease them to.

It stands where Ray is: for tests of what a loop does with its crew, and of what a killed driver leaves.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seal_ray import models
from seal_ray.config import Config
from seal_ray.policy.job import UpdateJob, UpdateResult
from seal_ray.policy.single_engine import SingleEngine
from seal_ray.policy.training import Training
from seal_ray.records import Attempt, Trial, Version, derive_seed
from seal_ray.trials.wave import try_wave


class BankCrew:
    """Tries whatever it is given at once, in this process."""

    overlap = False

    def __init__(self, config: Config, folder: str, tell: Any = None) -> None:
        self.config, self.folder = config, folder
        self.tried: list[Attempt] = []
        self._version: tuple[str, str | None] | None = None
        self._model: Any = None
        self._waiting: list[Attempt] = []
        self._tokenizer = models.tokenizer(folder)

    def pool(self, version: Version, adapter: str | None) -> "BankCrew":
        if self._version != (version.digest, adapter):
            self._model = models.load(self.folder, dtype="float32", device="cpu", adapter=adapter)
            self._version = (version.digest, adapter)
        return self

    def submit(self, attempts: Iterable[Attempt]) -> None:
        self._waiting += attempts

    def poll(self, timeout: float) -> list[Trial]:
        attempts, self._waiting = self._waiting, []
        self.tried += attempts
        return try_wave(self._model, self._tokenizer, attempts) if attempts else []

    def room(self) -> int:
        return 64

    def expect(self, count: int) -> None: ...
    def flush(self) -> None: ...
    def plan_anew(self) -> None: ...
    def release(self, *roles: str) -> None: ...
    def close(self) -> None: ...

    def trainers(self) -> dict[str, Any]:
        return {}

    def gpu_hours(self) -> float:
        return 0.0

    def samplers(self, version: Version, adapter: str | None) -> Any:
        raise AssertionError("nothing is sampled here")


def update(job: UpdateJob, *, sink: Any, tick: Any) -> UpdateResult:
    """The policy update without Ray: the same engine and loop."""
    engine = SingleEngine(job.base, job.adapter, job.section, derive_seed(job.seed, "adapter"), "cpu")
    training = Training(engine, job.section, job.lessons, (), job.seed)
    training.reference = training.scan(job.lessons, lambda: None).logprobs
    log: list[Any] = []
    training.run(log.append, lambda: None, lambda epoch, loss: None, lambda step: None)
    save(engine, Path(job.output))
    losses = tuple(step.loss for step in log)
    return UpdateResult(
        folder=job.output,
        kind="adapter",
        rank=engine.adapter_rank,
        steps=len(log),
        losses=losses,
        log=(),
        seconds=0.0,
        kl=0.0,
        drift=None,
        entropy=0.0,
        entropy_before=0.0,
        likelihood=(),
        likelihood_before=(),
        validation_losses=(),
        left_out=(),
        held_back=(),
        edits=(),
        recipe={},
        environment={},
    )


def save(engine: SingleEngine, folder: Path) -> None:
    """A new version's files, in a new folder."""
    folder.mkdir()

    def send(name: str, path: str) -> None:
        (folder / name).write_bytes(Path(path).read_bytes())

    engine.save(send)
