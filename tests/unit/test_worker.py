"""The worker without Ray: its base stays in memory from version to version, and whatever goes wrong has its kind."""

from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import write_adapter
from test_inner_isolation import REFUSED, made

from seal_ray import models
from seal_ray.config import AnsweringSection, InnerSection, ModelSection, StorageSection
from seal_ray.errors import DataError, InfraError
from seal_ray.fleet.wave_messages import OutOfMemory, WaveLease
from seal_ray.fleet.worker import Worker, WorkerSettings, classified
from seal_ray.inner import capacity, training
from seal_ray.records import Attempt, Candidate, Example, Recipe, Version

TINY = models.digest_of(models.fetch(ModelSection(name="builtin:tiny")))
BASE = Version(0, "v0", TINY)
SECOND = Version(1, "v1", TINY, parent="v0", kind="adapter", rank=4)
THIRD = Version(2, "v2", TINY, parent="v1", kind="adapter", rank=4)
IDS = torch.arange(20, 40)[None]


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=IDS).logits


def test_the_base_is_read_once_and_each_version_is_what_a_fresh_load_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = ModelSection(name="builtin:tiny", dtype="float32")
    folder = models.fetch(section)
    adapters = {SECOND: write_adapter(tmp_path / "one", 1), THIRD: write_adapter(tmp_path / "two", 2, rank=8)}
    loads: list[str] = []
    real = models.load

    def counted(path: str, **more: Any) -> Any:
        loads.append(path)
        return real(path, **more)

    monkeypatch.setattr(models, "load", counted)
    worker = Worker("worker-1", WorkerSettings(section, StorageSection(), InnerSection(), AnsweringSection()))
    for version in (BASE, SECOND, THIRD, BASE, SECOND):
        assert worker.load_version(version, adapters.get(version)) == version.digest
        fresh = real(folder, dtype="float32", adapter=adapters.get(version))
        assert torch.equal(logits(worker._model), logits(fresh))
        assert not any(p.requires_grad for p in worker._model.parameters())
        names = [n for n, _ in worker._model.named_parameters()]
        assert names == [n for n, _ in fresh.named_parameters()], "something of another version is left"
    assert len(loads) == 1


def test_an_adapter_that_does_not_fit_leaves_nothing_half_changed(tmp_path: Path) -> None:
    section = ModelSection(name="builtin:tiny", dtype="float32")
    worker = Worker("worker-1", WorkerSettings(section, StorageSection(), InnerSection(), AnsweringSection()))
    worker.load_version(BASE)
    strange = write_adapter(tmp_path / "strange", 1, block="other_attn")
    with pytest.raises((DataError, InfraError)):
        worker.load_version(SECOND, strange)
    assert worker._model is None and worker._version == ""
    good = write_adapter(tmp_path / "good", 1)
    assert worker.load_version(SECOND, good) == "v1"


def test_a_model_that_a_bank_can_not_take_is_refused_as_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    section = ModelSection(name="builtin:tiny", dtype="float32")
    worker = Worker("worker-1", WorkerSettings(section, StorageSection(), InnerSection(), AnsweringSection()))
    monkeypatch.setattr(models, "load", lambda *_, **__: made("Lfm2", REFUSED["Lfm2"]))
    with pytest.raises(DataError, match=r"Lfm2.*set model\.name"):
        worker.load_version(BASE)


@pytest.mark.parametrize(("wave", "wave_tokens"), [(3, 64), (0, 256)])
def test_a_wave_takes_as_many_candidates_and_a_forward_as_many_tokens_as_are_configured(
    monkeypatch: pytest.MonkeyPatch, wave: int, wave_tokens: int
) -> None:
    steps: list[tuple[int, list[int]]] = []  # candidates of a step, and rows of each of its forwards
    real = training.pack

    def seen(texts: Any, **more: Any) -> Any:
        layouts = real(texts, **more)
        steps.append((len(texts), [layout.rows for layout in layouts]))
        return layouts

    monkeypatch.setattr(training, "pack", seen)
    inner = InnerSection(wave=wave, wave_tokens=wave_tokens)
    section = ModelSection(name="builtin:tiny", dtype="float32")
    worker = Worker("worker-1", WorkerSettings(section, StorageSection(), inner, AnsweringSection()))
    worker.load_version(BASE)
    text = Example(tuple(range(20, 50)), (True,) * 30)
    recipe = Recipe(rank=4, epochs=1)
    candidates = [Candidate(f"c{n}", "t", "edit", None, 0, 0, n, recipe) for n in range(6)]
    attempts = tuple(Attempt(candidate, (text,), ()) for candidate in candidates)
    assert all(trial.failure is None for trial in worker.try_wave(WaveLease(1, "v0", attempts)))
    assert [count for count, _ in steps] == ([3, 3] if wave else [6])
    assert max(max(rows) for _, rows in steps) == (60 if wave_tokens == 64 else 180)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), OutOfMemory),
        (RuntimeError("CUDA error: out of memory"), OutOfMemory),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), InfraError),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), OutOfMemory),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), InfraError),
        (OSError("no space left"), InfraError),
        (RuntimeError("the size of tensor a (3) must match the size of tensor b (4)"), DataError),
    ],
    ids=str,
)
def test_who_is_to_blame_is_read_from_what_libraries_say(error: Exception, kind: type[Exception]) -> None:
    assert type(classified(error, "lease 1")) is kind


def test_an_accelerator_that_ran_out_of_memory_is_no_broken_device() -> None:
    error = torch.AcceleratorError.__new__(torch.AcceleratorError, "CUDA error: out of memory")
    error.args = ("CUDA error: out of memory",)
    assert type(classified(error, "lease 1")) is OutOfMemory


def test_a_worker_that_shares_its_gpu_plans_for_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    gb = 10**9
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda *_: 5 * gb)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda *_: 3 * gb)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (60 * gb, 80 * gb))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda *_: 0.5)
    assert capacity.free_memory(torch.device("cuda", 0)) == (40 - 5 + 2) * gb
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda *_: 1.0)
    assert capacity.free_memory(torch.device("cuda", 0)) == (60 + 2) * gb
