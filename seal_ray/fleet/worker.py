"""The worker: the actor that owns a device, and tries waves of candidates on it with the version that it was given."""

import gc
import os
import socket
import sys
import threading
import traceback
from dataclasses import dataclass
from typing import Any

from seal_ray import models
from seal_ray.config import AnsweringSection, InnerSection, ModelSection, StorageSection
from seal_ray.errors import DataError, InfraError, SealError
from seal_ray.fleet.actor_health import Sign
from seal_ray.fleet.wave_messages import OutOfMemory, WaveLease
from seal_ray.models.shared import Shared, materialise
from seal_ray.records import Trial, Version
from seal_ray.sampling.engine import EngineSettings
from seal_ray.trials.engine_answerer import EngineAnswerer, engine_answers

# how CUDA and its libraries begin what they say: a device that fails, not a candidate
DEVICE_ERRORS = ("CUDA error", "CUDA driver error", "cuDNN error", "CUDNN_STATUS_", "CUBLAS_STATUS_", "NCCL error")
SIGNS = "signs"  # the concurrency group that answers while the worker computes


@dataclass(frozen=True)
class WorkerSettings:
    """All that a worker needs to know before it is given a version."""

    model: ModelSection
    storage: StorageSection
    inner: InnerSection
    answering: AnsweringSection
    device: str = "cpu"  # cpu, cuda
    threads: int = 0  # on CPU; 0 leaves it to torch
    gpu_share: float = 1.0  # of its GPU; the rest is other workers'
    engine: EngineSettings | None = None  # of the vLLM engine that answers where answers are long


class Worker:
    """Tries waves. Whatever goes wrong leaves it sorted: `InfraError`, `DataError` or `OutOfMemory`."""

    def __init__(self, name: str, settings: WorkerSettings) -> None:
        self._name, self._settings = name, settings
        self._version = ""
        self._lease: int | None = None
        self._model: Any = None
        self._tokenizer: Any = None
        self._folder = ""  # of the model
        self._policy: str | None = None  # folder of the policy's adapter
        self._engine: EngineAnswerer | None = None
        self._fetching = False

    def load_version(self, version: Version, files: Shared | str | None = None) -> str:
        """Work with this version from now on; returns its digest. `files`: its adapter or weights, if it has any."""
        settings = self._settings
        if version.kind != "base" and files is None:
            raise InfraError(
                f"version {version.number} has weights of its own, but none were handed over",
                hint="hand over the folder with its files",
            )
        self._version = ""
        try:
            import torch

            if settings.device == "cpu" and settings.threads:
                torch.set_num_threads(settings.threads)
            if settings.device == "cuda" and settings.gpu_share < 1:
                torch.cuda.set_per_process_memory_fraction(settings.gpu_share)
            self._fetching = True
            own = materialise(files, settings.model) if isinstance(files, Shared) else files
            folder = models.fetch(settings.model, settings.storage, digest=version.base)
            self._fetching = False
            weights = own if version.kind == "full" and own else folder
            self._policy = own if version.kind == "adapter" else None
            self._change_engine(weights)
            self._load_model(weights)
            self._tokenizer = models.tokenizer(folder, trust_remote_code=settings.model.trust_remote_code)
        except Exception as error:
            self._model = None  # it may be half changed
            raise classified(error, f"{self._name} can't load version {version.number}") from None
        finally:
            self._fetching = False
        self._version = version.digest
        return version.digest

    def _change_engine(self, folder: str) -> None:
        """An engine stays up while its base does: a start takes minutes on a GPU. What it held of a bank goes."""
        if self._engine is not None and folder == self._folder:
            self._engine.change_policy(self._policy)
        elif self._engine is not None:
            self._engine.close()
            self._engine = None
        gc.unfreeze()  # an engine freezes all that is there when it starts; the adapter that goes now is part of that
        gc.collect()

    def _load_model(self, folder: str) -> None:
        """The model with the policy's adapter. A base that is in memory already stays there."""
        if self._model is not None and folder == self._folder:
            self._model = models.change_adapter(self._model, self._policy)
            return
        self._model, self._folder = None, folder
        gc.collect()
        model = self._settings.model
        self._model = models.load(
            folder,
            dtype=model.dtype,
            device=self._settings.device,
            adapter=self._policy,
            quantization=model.quantization,
            trust_remote_code=model.trust_remote_code,
        )
        from seal_ray.inner.frozen import check_model

        check_model(self._model)  # before edits are sampled that it could not be tried with

    def try_wave(self, lease: WaveLease) -> list[Trial]:
        """A trial for each attempt of the lease."""
        from seal_ray.trials.wave import try_wave

        if lease.version != self._version:
            raise InfraError(
                f"{self._name} has version {self._version[:12] or 'none'} and the lease is for {lease.version[:12]}",
                hint="load the lease's version first",
            )
        inner = self._settings.inner
        self._lease = lease.id
        try:
            return try_wave(
                self._model,
                self._tokenizer,
                lease.attempts,
                wave=inner.wave,
                tokens_limit=inner.wave_tokens,
                worker=self._name,
                answerer=self._answerer(lease),
            )
        except Exception as error:
            raise classified(error, f"lease {lease.id} on {self._name}") from None
        finally:
            self._lease = None

    def _answerer(self, lease: WaveLease) -> EngineAnswerer | None:
        """The engine if any of this lease's answers may be long, else None: the bank answers itself."""
        answering, engine = self._settings.answering, self._settings.engine
        longest = max((ask.max_tokens for attempt in lease.attempts for ask in attempt.asks), default=0)
        if engine is None or not engine_answers(answering.how, answering.engine_from, longest):
            return None
        if self._engine is None:
            how, engine_from = answering.how, answering.engine_from
            self._engine = EngineAnswerer(self._folder, engine, self._policy, how=how, engine_from=engine_from)
            self._engine.start()
        return self._engine

    def ping(self) -> Sign:
        """A sign of life."""
        return sign(self._version, self._lease, fetching=self._fetching)

    def stacks(self) -> str:
        """Where every thread of this process is."""
        return stacks()


def worker_class() -> Any:
    """Worker as a Ray actor class: one thread computes, another answers `ping` and `stacks`."""
    return answering_class(Worker)


def answering_class(cls: type) -> Any:
    """A Ray actor class that gives signs of life while it works, and that Ray neither restarts nor calls again."""
    import ray

    for name in ("ping", "stacks"):
        ray.method(concurrency_group=SIGNS)(getattr(cls, name))
    remote: Any = ray.remote
    return remote(concurrency_groups={SIGNS: 2}, max_restarts=0, max_task_retries=0)(cls)


def sign(version: str, lease: int | None, *, fetching: bool = False) -> Sign:
    """A sign of life of this process, with where to find what it has written."""
    import ray

    if not ray.is_initialized():
        return Sign(version, lease, os.getpid(), fetching=fetching)
    context = ray.get_runtime_context()
    log = f"worker-{context.get_worker_id()}-{context.get_job_id()}-{os.getpid()}.err"
    gpus = tuple(str(gpu) for gpu in ray.get_gpu_ids())
    return Sign(version, lease, os.getpid(), context.get_node_id(), socket.gethostname(), log, gpus, fetching)


def stacks() -> str:
    """The stack of every thread, the innermost call last."""
    names = {t.ident: t.name for t in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            parts.append(f"thread {names.get(ident, ident)}\n" + "".join(traceback.format_stack(frame)[-12:]))
    return "\n".join(parts)[-20_000:]


def classified(error: Exception, where: str) -> Exception:
    """Who is to blame, decided where the error still has its type: whoever gets it may not have that type's package."""
    import torch

    from seal_ray.inner.capacity import out_of_memory

    if isinstance(error, SealError):
        return error
    text = f"{where}: {type(error).__name__}: {error}"[:1000]
    if out_of_memory(error):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return OutOfMemory(text)
    device = isinstance(error, torch.AcceleratorError) or any(sign in str(error) for sign in DEVICE_ERRORS)
    if device or isinstance(error, OSError):
        return InfraError(text, hint="it is tried again elsewhere")
    tail = "".join(traceback.format_tb(error.__traceback__)[-3:])
    return DataError(f"{text}\n{tail}"[:2000])
