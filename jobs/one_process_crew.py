"""Small runs without a cluster: the crew of a run as one process beside the loop's own, for experiments on few cores.

    with seal_ray on a cluster:  session -> Ray -> samplers, workers, trainers in processes of their own
    here:                        session -> the same Sampler (vLLM), Worker (bank) and training loop, called directly

Everything that decides or computes is the product's; what is missing is what makes it survive: leases, retries, blame,
deadlines. Nothing of a run's results depends on which of the two has made it. Starting Ray and its actors costs more
than a tiny world's whole round on a machine whose cores are busy.
"""

import multiprocessing
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from seal_ray.config import Config
from seal_ray.events import Sink
from seal_ray.fleet.crew import engine_rank
from seal_ray.fleet.wave_messages import WaveLease
from seal_ray.fleet.worker import Worker, WorkerSettings
from seal_ray.policy.job import LearnedEdit, StepLog, UpdateJob, UpdateResult
from seal_ray.policy.packing import fitting, hold_back, vocabulary
from seal_ray.records import Attempt, Edit, Trial, Version, derive_seed
from seal_ray.sampling.engine import EngineSettings
from seal_ray.sampling.sampler import EditPrompt, Sampler
from seal_ray.software import software

ROOM = 64  # candidates in a wave
Chunk = tuple[str, list[EditPrompt]]


class OneProcessCrew:
    """Samplers, pool and trainer in turn. `close` ends a run's use of it, `shut_down` the process of its engine."""

    overlap = False

    def __init__(self) -> None:
        self._config: Config | None = None
        self._engines: dict[tuple[Any, ...], _EngineProcess] = {}
        self._worker: Worker | None = None
        self._worker_for: Any = None

    def hire(self, config: Config, _folder: str, _sink: Sink) -> "OneProcessCrew":
        """For `Session(hire=…)`. Engine and model stay up where the next run wants the same."""
        self._config = config
        return self

    def samplers(self, version: Version, adapter: str | None) -> "_Samplers":
        assert self._config
        config = self._config
        settings = EngineSettings(
            device="cpu",
            dtype=config.model.dtype,
            max_length=config.model.max_length,
            lora_rank=engine_rank(config),
            kv_cache_gb=config.sampling.kv_cache_gb,
        )
        key = (config.model, settings)
        if key not in self._engines:
            self._engines[key] = _EngineProcess(config, settings)
        self._engines[key].ask("load_version", version, adapter)
        return _Samplers(self._engines[key])

    def pool(self, version: Version, adapter: str | None) -> "_Pool":
        assert self._config
        config = self._config
        if self._worker is None or self._worker_for != (config.model, config.inner, config.answering):
            settings = WorkerSettings(config.model, config.storage, config.inner, config.answering, threads=1)
            self._worker = Worker("here", settings)
            self._worker_for = (config.model, config.inner, config.answering)
        self._worker.load_version(version, adapter)
        return _Pool(self._worker, version.digest)

    def trainers(self) -> dict[str, Any]:
        return {}

    def plan_anew(self) -> None: ...

    def release(self, *roles: str) -> None: ...

    def close(self) -> None: ...

    def gpu_hours(self) -> float:
        return 0.0

    def shut_down(self) -> None:
        for engine in self._engines.values():
            engine.end()
        self._engines.clear()


# sampling


def _serve(config: Config, settings: EngineSettings, line: Connection) -> None:
    sampler = Sampler(config.model, settings, config.storage)
    line.send(sampler.start())
    while True:
        name, arguments = line.recv()
        if name == "end":
            return
        line.send(getattr(sampler, name)(*arguments))


class _EngineProcess:
    """vLLM in a process of its own: on CPU it binds memory and sets seeds for the whole process."""

    def __init__(self, config: Config, settings: EngineSettings) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(config, settings, far), daemon=True)
        self._process.start()
        self._line.recv()

    def ask(self, name: str, *arguments: Any) -> Any:
        self._line.send((name, arguments))
        return self._line.recv()

    def end(self) -> None:
        self._line.send(("end", ()))
        self._process.join()


class _Samplers:
    def __init__(self, engine: _EngineProcess) -> None:
        self._engine, self._waiting = engine, list[Chunk]()

    def submit(self, chunk_id: str, chunk: Sequence[EditPrompt]) -> None:
        self._waiting.append((chunk_id, list(chunk)))

    def poll(self, _timeout: float) -> list[tuple[str, list[Edit]]]:
        if not self._waiting:
            return []
        chunk_id, chunk = self._waiting.pop(0)
        return [(chunk_id, self._engine.ask("sample", chunk))]


# trials


class _Pool:
    def __init__(self, worker: Worker, version: str) -> None:
        self._worker, self._version = worker, version
        self._waiting: list[Attempt] = []

    def submit(self, attempts: Iterable[Attempt]) -> None:
        self._waiting += attempts

    def poll(self, timeout: float) -> list[Trial]:
        if not self._waiting:
            time.sleep(min(timeout, 0.01))  # graders have their turn
            return []
        wave, self._waiting = self._waiting[:ROOM], self._waiting[ROOM:]
        return self._worker.try_wave(WaveLease(0, self._version, tuple(wave)))

    def room(self) -> int:
        return max(0, ROOM - len(self._waiting))

    def expect(self, count: int) -> None: ...

    def flush(self) -> None: ...


# update


def update(job: UpdateJob, *, sink: Sink, tick: Any = lambda: None) -> UpdateResult:
    """In the place of `policy.update.update`: the work of its one worker without Ray, with the same numbers."""
    from seal_ray.policy.lessons import Lesson
    from seal_ray.policy.single_engine import SingleEngine
    from seal_ray.policy.training import Training, as_event
    from seal_ray.policy.update_worker import _moved

    began, section = time.monotonic(), job.section
    size, longest = vocabulary(job.base)
    fit, left_out = fitting(job.lessons, {"policy.max_length": section.max_length, "the model": longest}, size)
    learned, held = hold_back(fit, section.validation, job.seed)
    engine = SingleEngine(job.base, job.adapter, section, derive_seed(job.seed, "adapter"), "cpu")
    training = Training(engine, section, tuple(learned), tuple(held), job.seed)
    log: list[StepLog] = []

    def tell(step: StepLog) -> None:
        log.append(step)
        sink(as_event(step, len(training.batches)))

    before = training.scan(learned, tick)
    training.reference = before.logprobs
    training.run(tell, tick, lambda epoch, loss: None, lambda step: None)
    after = training.scan(learned, tick)
    part = Path(f"{job.output}.part")
    part.mkdir(parents=True)

    def send(name: str, path: str) -> None:
        shutil.copyfile(path, part / name)

    engine.save(send)
    os.rename(part, job.output)
    return UpdateResult(
        folder=job.output,
        kind="adapter",
        rank=engine.adapter_rank,
        steps=len(log),
        losses=tuple(s.loss for s in log),
        log=tuple(log),
        seconds=time.monotonic() - began,
        kl=_moved(before, after),
        drift=training.drift([Lesson("", "", text) for text in job.probe] or learned, tick),
        entropy=after.entropy,
        entropy_before=before.entropy,
        likelihood=after.likelihood(),
        likelihood_before=before.likelihood(),
        validation_losses=(),
        left_out=tuple(left_out),
        held_back=tuple(lesson.edit for lesson in held),
        edits=tuple(LearnedEdit(lesson.edit, lesson.task, lesson.weight) for lesson in learned),
        recipe=section.model_dump(mode="json") | {"algorithm": job.lessons[0].algorithm, "seed": job.seed},
        environment=software() | {"workers": "the loop's own process", "engine": "torch"},
    )
