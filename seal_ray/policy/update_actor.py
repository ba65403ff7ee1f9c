"""The actor beside the driver that runs an update: it starts the workers, and takes news, files and checkpoints in.

Ray Train's controller and workers (or the one worker without Ray Train) are owned by this actor, so killing it leaves
nothing alive, whatever they hang in.
"""

import dataclasses
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seal_ray.errors import InfraError, PlacementError, SealError
from seal_ray.events import ActorChanged, Event
from seal_ray.policy.checkpoints import digest_of
from seal_ray.text import first_line

NEWS = "news"  # the concurrency group in which news are taken in, one after the other
SIGNS_OF_LOST_PEER = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "socket")


@dataclass(frozen=True)
class Limits:
    """How long the parts of an update may take, in seconds."""

    start: float
    hang: float
    collective: float


@dataclass(frozen=True)
class TrainerCount:
    """The workers of an update."""

    number: int
    use_gpu: bool
    cpus: float
    env: dict[str, str]
    alone: bool = False  # one worker without Ray Train

    def __str__(self) -> str:
        what = "1 GPU and " if self.use_gpu else ""
        return f"{self.number} x ({what}{self.cpus:g} CPU)"


@dataclass(frozen=True)
class TrainerProcess:
    """One worker of an attempt, and what Ray holds for it."""

    name: str
    node: str
    pid: int
    placement_group: str  # its id, as hex; empty: none


@dataclass(frozen=True)
class News:
    """What the driver is told when it asks."""

    events: list[Event]  # since it last asked
    processes: tuple[TrainerProcess, ...]  # all that have come up, those of earlier attempts too
    quiet: float  # seconds since the last sign of life
    started: bool  # whether there was one in this attempt


@dataclass(frozen=True)
class UpdateOutcome:
    """How one attempt ended: with a value, or with an error that may or may not be worth another attempt."""

    value: Any = None
    error: SealError | None = None
    again: bool = False


class Desk:
    """Made an actor by `desk_class`. Its methods run in threads of their own."""

    def __init__(self, folder: str, checkpoints: str = "") -> None:
        self.folder, self.checkpoints = Path(folder), Path(checkpoints)
        self._lock = threading.Lock()
        self._news: list[Event] = []
        self._processes: list[TrainerProcess] = []
        self._sign = time.monotonic()
        self._seen = False
        self._kept: dict[str, Any] = {}
        self._have_files: set[int] = set()

    def fit(
        self, train: Callable[[dict[str, Any]], Any], payload: list[Any], crew: TrainerCount, limits: Limits
    ) -> UpdateOutcome:
        """Run `train` on every worker, once."""
        import ray

        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        with self._lock:
            self._sign, self._seen = time.monotonic(), False
            self._have_files.clear()
        config = {"payload": payload[0], "desk": ray.get_runtime_context().current_actor}
        return (self._alone if crew.alone else self._in_group)(train, config, crew, limits)

    def _alone(
        self, train: Callable[[dict[str, Any]], Any], config: dict[str, Any], crew: TrainerCount, limits: Limits
    ) -> UpdateOutcome:
        import ray

        options: dict[str, Any] = {
            "num_cpus": crew.cpus,
            "num_gpus": int(crew.use_gpu),
            "max_retries": 0,  # every retry is ours
            "runtime_env": {"env_vars": crew.env},
            "name": "trainer-0",
        }
        # its process ends with it: Ray would keep it for the next task, model and all
        task = ray.remote(max_calls=1)(train).options(**options).remote(config)
        until = time.monotonic() + limits.start
        while not ray.wait([task], timeout=0.5)[0]:
            if not self._seen and time.monotonic() > until:
                ray.cancel(task, force=True)
                return UpdateOutcome(error=_no_room(crew, limits))
        try:
            return UpdateOutcome(value=ray.get(task))
        except Exception as error:  # whatever it is, it must cross to the driver as an error of ours
            return judge(error, crew, limits)

    def _in_group(
        self, train: Callable[[dict[str, Any]], Any], config: dict[str, Any], crew: TrainerCount, limits: Limits
    ) -> UpdateOutcome:
        import tempfile

        # Ray Train reads these where the trainer is made, and hands them on to its controller and workers
        os.environ |= {
            "RAY_TRAIN_V2_ENABLED": "1",
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(limits.start),
            "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(limits.hang),
            "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": str(limits.collective),
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a preempted worker is a lost one, and our retries count it
            "RAY_CHDIR_TO_TRIAL_DIR": "0",
        }
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.config import LoggingConfig

        class Trainer(TorchTrainer):
            """Without the detached actor that frees the workers' room should the controller die: it waits 12 s for a
            dashboard where there is none and could outlive us. `Watch.end` frees that room instead."""

            def _create_default_callbacks(self) -> list[Any]:
                callbacks = super()._create_default_callbacks()
                return [c for c in callbacks if type(c).__name__ != "PlacementGroupCleanerCallback"]

        with tempfile.TemporaryDirectory(prefix="seal-ray-update-") as storage:
            trainer = Trainer(
                train,
                train_loop_config=config,
                torch_config=TorchConfig(timeout_s=int(limits.collective) or 1),
                scaling_config=ScalingConfig(
                    num_workers=crew.number,
                    use_gpu=crew.use_gpu,
                    resources_per_worker={"CPU": crew.cpus} | ({"GPU": 1} if crew.use_gpu else {}),
                ),
                run_config=RunConfig(
                    storage_path=storage,
                    name="update",
                    # every retry is ours: a fault of the data must not be tried again
                    failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),
                    worker_runtime_env={"env_vars": crew.env},
                    logging_config=LoggingConfig(log_level="ERROR"),
                ),
            )
            try:
                return UpdateOutcome(value=trainer.fit().return_value)
            except Exception as error:  # whatever it is, it must cross to the driver as an error of ours
                return judge(error, crew, limits)

    # what workers say

    def tell(self, event: Event) -> None:
        with self._lock:
            self._sign, self._seen = time.monotonic(), True
            self._news.append(dataclasses.replace(event, time=time.time()))

    def arrived(self, process: TrainerProcess) -> None:
        """A worker has come up."""
        with self._lock:
            self._processes.append(process)
        self.tell(ActorChanged(process.name, "trainer", process.node, "healthy", pid=process.pid))

    def alive(self) -> None:
        with self._lock:
            self._sign, self._seen = time.monotonic(), True

    def have_files(self, rank: int) -> int:
        """A worker has all that it is to load; how many have by now."""
        with self._lock:
            self._have_files.add(rank)
            return len(self._have_files)

    def news_are_in(self) -> None:
        """Returns when whatever this caller has told before is taken in."""

    def keep(self, key: str, value: Any) -> None:
        """Something that outlives an attempt."""
        with self._lock:
            self._kept[key] = value

    def kept(self) -> dict[str, Any]:
        with self._lock:
            return dict(self._kept)

    def write(self, name: str, offset: int, data: bytes) -> None:
        """A piece of a file of the new version."""
        _put(self.folder, name, offset, data)
        self.alive()

    # checkpoints of workers that do not see their folder

    def put_piece(self, tag: str, name: str, offset: int, data: bytes) -> None:
        _put(self._tagged(tag), name, offset, data)
        self.alive()

    def checkpoint_files(self, tag: str) -> dict[str, int]:
        """The files of a checkpoint and their sizes."""
        return {p.name: p.stat().st_size for p in sorted(self._tagged(tag).iterdir())}

    def get_piece(self, tag: str, name: str, offset: int, size: int) -> bytes:
        self.alive()
        with open(self._tagged(tag) / os.path.basename(name), "rb") as file:
            file.seek(offset)
            return file.read(size)

    def digest(self, tag: str) -> str:
        return digest_of(self._tagged(tag))

    def drop_others(self, tag: str) -> None:
        """Only the newest checkpoint is gone on from."""
        for old in self.checkpoints.glob("step-*"):
            if old.name != tag:
                shutil.rmtree(old, ignore_errors=True)

    def _tagged(self, tag: str) -> Path:
        return self.checkpoints / os.path.basename(tag)

    # what the driver asks

    def news(self) -> News:
        with self._lock:
            events, self._news = self._news, []
            return News(events, tuple(self._processes), time.monotonic() - self._sign, self._seen)


def desk_class() -> Any:
    """Desk as a Ray actor class: news come in one by one and in order, everything else side by side."""
    import ray

    for name in ("arrived", "tell", "news_are_in"):
        ray.method(concurrency_group=NEWS)(getattr(Desk, name))
    remote: Any = ray.remote
    return remote(concurrency_groups={NEWS: 1}, max_concurrency=8)(Desk)


def _put(folder: Path, name: str, offset: int, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / os.path.basename(name)
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.seek(offset)
        file.write(data)


def _no_room(crew: TrainerCount, limits: Limits) -> PlacementError:
    return PlacementError(
        f"the policy update needs {crew} and did not get it within {limits.start:g} s",
        hint="lower placement.trainers or trainer_cpus, free the cluster, or raise policy.worker_timeout",
    )


def judge(error: Exception, crew: TrainerCount, limits: Limits) -> UpdateOutcome:
    """What an attempt's error means, and whether another attempt may help."""
    from ray.exceptions import RayError, RayTaskError
    from ray.train.v2._internal.exceptions import InsufficientClusterResourcesError, WorkerGroupStartupTimeoutError
    from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

    from seal_ray.inner.capacity import out_of_memory

    if isinstance(error, ControllerError):
        cause = error.controller_failure
        if isinstance(cause, (WorkerGroupStartupTimeoutError, InsufficientClusterResourcesError)):
            return UpdateOutcome(error=_no_room(crew, limits))
        return UpdateOutcome(error=InfraError(f"the policy update could not be started: {cause}"), again=True)
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        error = error.cause
    failures = dict(sorted(error.worker_failures.items())) if isinstance(error, WorkerGroupError) else {0: error}
    for failure in failures.values():
        if isinstance(failure, SealError):
            return UpdateOutcome(error=failure)
    for rank, failure in failures.items():
        if out_of_memory(failure):  # also where NCCL says it in words of a lost peer: another attempt needs as much
            hint = "lower policy.micro_batch_tokens, or use zero_stage: 3, offload: cpu or more trainers"
            return UpdateOutcome(error=InfraError(f"worker {rank} of the policy update ran out of memory", hint=hint))
    text = "; ".join(f"worker {rank}: {type(f).__name__}: {first_line(f, 300)}" for rank, f in failures.items())
    lost = any(isinstance(f, RayError) or _lost_peer(f) for f in failures.values())
    return UpdateOutcome(error=InfraError(f"the policy update failed: {text}"), again=lost)


def _lost_peer(failure: Exception) -> bool:
    """Whether a worker is gone, or ended because another one is: Ray Train and torch have no one type for it."""
    kind, text = type(failure).__name__, str(failure).lower()
    return kind.startswith(("Dist", "WorkerHealthCheck")) or any(sign in text for sign in SIGNS_OF_LOST_PEER)
