"""The engine that answers for a worker, version after version. Models and vLLM are played: names of folders."""

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from seal_ray import models
from seal_ray.config import AnsweringSection, InnerSection, ModelSection, StorageSection
from seal_ray.errors import DataError
from seal_ray.fleet.worker import Worker, WorkerSettings
from seal_ray.inner import Sample, Sampling, frozen
from seal_ray.records import Version
from seal_ray.sampling.engine import EngineSettings
from seal_ray.trials import engine_answerer


def lease(*max_tokens: int) -> Any:
    return SimpleNamespace(attempts=[SimpleNamespace(asks=[SimpleNamespace(max_tokens=n)]) for n in max_tokens])


@dataclass
class Played:
    """An engine that says what it was told to forget, and freezes what is there when it starts, as vLLM does."""

    model_dir: str
    settings: EngineSettings
    forgot: list[str] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        gc.freeze()

    def forget(self, adapter: str) -> None:
        self.forgot.append(adapter)

    def generate(self, requests: list[Any], adapters: list[Any]) -> list[Any]:
        return [SimpleNamespace(ids=(request.max_tokens,), logprobs=(0.0,), finish="engine") for request in requests]

    def close(self) -> None:
        self.closed = True


class Untrained:
    """A bank whose only candidate has no adapter of its own."""

    weights: ClassVar[dict[int, Any]] = {}
    seeds = (1,)

    def answer(self, prompts: Any, sampling: Sampling) -> Any:
        return [[[Sample((sampling.max_tokens,), (0.0,), "bank")] for _ in own] for own in prompts]


UNTRAINED: Any = Untrained()


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Played]]:
    made: list[Played] = []

    def engine(folder: str, settings: EngineSettings) -> Played:
        made.append(Played(folder, settings))
        return made[-1]

    def change(model: str, adapter: str | None) -> str:
        if adapter == "/strange":
            raise DataError("it does not fit")
        return model

    monkeypatch.setattr(engine_answerer, "Engine", engine)
    monkeypatch.setattr(models, "fetch", lambda *_, **__: "/base")
    monkeypatch.setattr(models, "load", lambda folder, **_: folder)
    monkeypatch.setattr(models, "change_adapter", change)
    monkeypatch.setattr(models, "tokenizer", lambda *_, **__: None)
    monkeypatch.setattr(frozen, "check_model", lambda _: None)
    yield made
    gc.unfreeze()


@pytest.fixture
def worker() -> Worker:
    sections = ModelSection(), StorageSection(), InnerSection(), AnsweringSection(how="engine")
    return Worker("worker-1", WorkerSettings(*sections, engine=EngineSettings()))


def version(number: int, kind: Any) -> Version:
    return Version(number, f"v{number}", "base", kind=kind)


def policy_of(worker: Worker) -> str | None:
    """The adapter that a candidate without one of its own is answered with."""
    answerer = worker._answerer(lease(8))
    assert answerer is not None
    return answerer._adapter(UNTRAINED, 0, [1])


def test_an_engine_stays_up_from_adapter_to_adapter_and_goes_where_the_weights_change(
    engines: list[Played], worker: Worker
) -> None:
    steps: list[tuple[Any, str | None, str]] = [
        ("base", None, "/base"),
        ("adapter", "/one", "/base"),
        ("adapter", "/two", "/base"),
        ("adapter", "/two", "/base"),
        ("full", "/own", "/own"),
        ("adapter", "/one", "/base"),
    ]
    for number, (kind, files, weights) in enumerate(steps):
        worker.load_version(version(number, kind), files)
        assert not gc.get_freeze_count(), "what goes with a version stays in memory"
        assert policy_of(worker) == (files if kind == "adapter" else None)
        assert engines[-1].model_dir == weights == worker._model
    assert [(e.model_dir, e.closed) for e in engines] == [("/base", True), ("/own", True), ("/base", False)]
    assert engines[0].forgot == ["/one"], "an adapter that nobody answers with any more was kept, or one in use was not"


def test_after_a_version_that_does_not_load_the_next_one_answers_with_its_own_adapter(
    engines: list[Played], worker: Worker
) -> None:
    worker.load_version(version(1, "adapter"), "/one")
    assert policy_of(worker) == "/one"
    with pytest.raises(DataError, match="does not fit"):
        worker.load_version(version(2, "adapter"), "/strange")
    worker.load_version(version(3, "adapter"), "/three")
    assert policy_of(worker) == "/three" and len(engines) == 1


def test_who_answers_a_question_does_not_depend_on_what_else_is_asked(engines: list[Played]) -> None:
    """By length, each question by its own; and an engine is started where any question needs it."""
    sections = ModelSection(), StorageSection(), InnerSection(), AnsweringSection(how="auto", engine_from=512)
    worker = Worker("worker-1", WorkerSettings(*sections, engine=EngineSettings()))
    worker.load_version(version(1, "base"))
    assert worker._answerer(lease(8, 511)) is None and not engines
    answerer = worker._answerer(lease(8, 512))
    assert answerer is not None and len(engines) == 1
    for longest, who in ((8, "bank"), (511, "bank"), (512, "engine"), (8, "bank")):
        (((sample,),),) = answerer.answer(UNTRAINED, [[(1,)]], Sampling(longest))
        assert (sample.ids, sample.finish) == ((longest,), who)
