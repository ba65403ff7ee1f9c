"""A wave's answers by vLLM are the bank's own (float32), and an adapter that is not what was trained may not answer."""

import contextlib
import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import ray
from ray.cloudpickle import register_pickle_by_value
from ray.exceptions import RayTaskError

from seal_ray import models
from seal_ray.config import AnsweringSection, InnerSection, ModelSection, StorageSection
from seal_ray.errors import InfraError
from seal_ray.fleet.wave_messages import WaveLease
from seal_ray.fleet.worker import WorkerSettings, worker_class
from seal_ray.records import Ask, Attempt, Candidate, Example, Recipe, Version
from seal_ray.sampling.engine import ENVIRONMENT, EngineSettings
from seal_ray.trials.engine_answerer import PROBE, engine_answers

register_pickle_by_value(sys.modules[__name__])  # workers can not import this file

RECIPE = Recipe(rank=4, alpha=8, epochs=6, lr=2e-2)
SETTINGS = EngineSettings(dtype="float32", max_length=256, lora_rank=16, adapters=2, kv_cache_gb=0.1)


class Room:
    """The bank and the engine in one process, as in a worker."""

    def __init__(self, policy: str | None) -> None:
        from seal_ray import inner
        from seal_ray.trials.engine_answerer import EngineAnswerer

        folder = models.fetch(ModelSection(name="builtin:tiny"))
        model = models.load(folder, dtype="float32", adapter=policy)
        self.model = model
        ids = tuple(range(100, 140))
        text = Example(ids, (True,) * len(ids))
        other = dataclasses.replace(text, ids=ids[::-1])
        # the second has no adapter of its own: it answers as the model does
        self.bank = inner.fit(model, [[text], [], [other], [text, other]], [RECIPE, None, RECIPE, RECIPE], [1, 2, 3, 4])
        self.answerer = EngineAnswerer(folder, SETTINGS, policy)

    def both(self, sampling: Any) -> Any:
        prompts = [[(1, 100 + n, 101 + n, 102 + n) for n in range(2 + i)] for i in range(4)]
        prompts[2] = []
        return self.bank.answer(prompts, sampling), self.answerer.answer(self.bank, prompts, sampling)

    def likelihoods(self) -> Any:
        pairs = [[((1, 100), (101, 102))], [], [], []]
        return self.bank.likelihood(pairs), self.answerer.likelihood(self.bank, pairs)

    def with_swapped_files(self, sampling: Any) -> Any:
        """What is exported for one adapter is another's: a whole adapter, well formed, and wrong."""
        bank = self.bank

        class Swapped:
            seeds, weights, likelihood = bank.seeds, bank.weights, staticmethod(bank.likelihood)

            def export(self, number: int, directory: str | Path) -> None:
                bank.export({0: 2, 2: 0}.get(number, number), directory)

        prompts: list[list[Any]] = [[(1, 100, 101, 102, 103)], [], [], []]
        swapped: Any = Swapped()
        with contextlib.suppress(InfraError):
            return self.answerer.answer(swapped, prompts, sampling)
        return self.answerer.answer(swapped, prompts, sampling)  # trying again does not let it through

    def long_answers(self) -> list[tuple[int, float, float]]:
        """Of answers far longer than the probe: tokens, and their log-probability by vLLM and by the bank."""
        from seal_ray.inner import Sampling

        prompts: list[list[Any]] = [[(1, 100, 101, 102)], [(1, 100, 101)], [(1, 139, 138)], [(1, 100), (1, 139)]]
        drawn = self.answerer.answer(self.bank, prompts, Sampling(max_tokens=200, temperature=1.0, seed=3))
        answers = [[one for (one,) in own] for own in drawn]
        pairs = [[(p, s.ids) for p, s in zip(ps, own, strict=True)] for ps, own in zip(prompts, answers, strict=True)]
        ours = self.bank.likelihood(pairs)
        return [
            (len(sample.ids), sum(sample.logprobs), logprob)
            for own, scored in zip(answers, ours, strict=True)
            for sample, (logprob, _) in zip(own, scored, strict=True)
        ]

    def in_one_folder(self, sampling: Any) -> list[tuple[Any, Any, list[str]]]:
        """Two banks in turn whose adapters come under the same numbers in folders of the same names."""
        from seal_ray import inner
        from seal_ray.trials import engine_answerer

        self.answerer._let_go()
        ids = tuple(range(150, 190))
        other = inner.fit(self.model, [[Example(ids, (True,) * len(ids))]], [RECIPE], [1])
        prompts = [[(1, 100, 101, 102), (1, 150, 151, 152)]]
        came = []
        with tempfile.TemporaryDirectory() as root, mock.patch.object(engine_answerer.tempfile, "mkdtemp") as mkdtemp:
            mkdtemp.side_effect = lambda prefix: os.makedirs(f"{root}/{prefix}") or f"{root}/{prefix}"
            for bank in (self.bank, other, self.bank):
                asked = prompts + [[] for _ in bank.seeds[1:]]
                ours, theirs = bank.answer(asked, sampling), self.answerer.answer(bank, asked, sampling)
                came.append((ours[0], theirs[0], list(self.answerer._folders.values())))
            self.answerer._let_go()
        return came

    def left_files(self) -> list[str]:
        folders = list(self.answerer._folders.values())
        self.answerer.close()
        return [f for f in folders if Path(f).exists()]


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Callable[..., Any]]]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    actors: list[Any] = []

    def start(policy: str | None) -> Callable[..., Any]:
        for old in actors:
            ray.kill(old)
        remote: Any = ray.remote
        actors[:] = [remote(Room).options(runtime_env={"env_vars": ENVIRONMENT}).remote(policy)]

        def call(method: str, *args: Any) -> Any:
            try:
                return ray.get(getattr(actors[0], method).remote(*args), timeout=280)
            except RayTaskError as error:
                raise getattr(error, "cause", error) from None

        return call

    yield start
    ray.shutdown()


def test_the_engine_answers_what_the_bank_answers_and_refuses_what_was_not_trained(
    start: Callable[..., Callable[..., Any]],
) -> None:
    from seal_ray.inner import Sampling

    call = start(None)
    greedy = Sampling(max_tokens=12, eos_ids=(2,))
    ours, theirs = call("both", greedy)
    assert [[len(p) for p in own] for own in theirs] == [[1] * 2, [1] * 3, [], [1] * 5]
    for own, found in zip(ours, theirs, strict=True):
        for a, b in zip((s for p in own for s in p), (s for p in found for s in p), strict=True):
            assert a.ids == b.ids and a.finish == b.finish and type(a) is type(b)
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-3)
    assert ours[0] != ours[3][:2]  # the adapters do answer differently
    _, drawn = call("both", Sampling(max_tokens=12, temperature=1.0, samples=3, eos_ids=(2,), seed=5))
    assert all(len({s.ids for s in p}) == 3 for own in drawn for p in own)
    assert call("both", Sampling(max_tokens=12, temperature=1.0, samples=3, eos_ids=(2,), seed=5))[1] == drawn
    ours, theirs = call("likelihoods")
    assert ours == theirs
    long = call("long_answers")
    assert max(length for length, *_ in long) > PROBE, "some go on where the canary has not looked"
    assert all(by_vllm == pytest.approx(by_bank, abs=1e-3 * length) for length, by_vllm, by_bank in long)
    (first, again, folder), (second, other, same_folder), (third, back, _) = call("in_one_folder", greedy)
    assert folder == same_folder and len(folder) == 1
    assert _ids(again) == _ids(first) and _ids(other) == _ids(second) and _ids(back) == _ids(third)
    assert _ids(first) == _ids(third) != _ids(second), "the two banks do answer differently"
    with pytest.raises(InfraError, match=r"adapter 0: vLLM gives .* the bank that trained it"):
        call("with_swapped_files", greedy)
    assert call("left_files") == []


def _ids(answers: Any) -> list[list[Any]]:
    return [[sample.ids for sample in samples] for samples in answers]


def test_over_a_policy_the_engine_answers_with_the_policy_too(
    start: Callable[..., Callable[..., Any]], tmp_path: Path
) -> None:
    from seal_ray.inner import Sampling, fit
    from seal_ray.models import fetch, load

    ids = tuple(range(200, 240))
    trained = fit(
        load(fetch(ModelSection(name="builtin:tiny")), dtype="float32"),
        [[Example(ids, (True,) * len(ids))]],
        [dataclasses.replace(RECIPE, epochs=3)],
        [9],
    )
    trained.export(0, tmp_path / "policy")
    ours, theirs = start(str(tmp_path / "policy"))("both", Sampling(max_tokens=12, eos_ids=(2,)))
    assert [[s.ids for p in own for s in p] for own in theirs] == [[s.ids for p in own for s in p] for own in ours]
    shutil.rmtree(tmp_path / "policy")


@pytest.mark.parametrize(
    ("how", "longest", "engine"),
    [("auto", 64, False), ("auto", 512, True), ("bank", 4096, False), ("engine", 1, True)],
)
def test_who_answers_follows_from_length_or_configuration(how: Any, longest: int, engine: bool) -> None:
    assert engine_answers(how, 512, longest) is engine


def test_a_worker_answers_a_wave_by_its_engine_as_by_its_bank(start: Callable[..., Callable[..., Any]]) -> None:
    del start  # Ray is up
    ids = tuple(range(100, 140))
    asks = (Ask("q", ids[:6], ((*ids[6:9], 2),), 12, ()), Ask("r", ids[20:24], (), 12, ()))
    trained = Candidate("a", "t", "edit", "e", 0, 0, 5, RECIPE)
    lease = WaveLease(
        1,
        "v0",
        (
            Attempt(trained, (Example(ids, (True,) * len(ids)),), asks),
            Attempt(Candidate("b", "t", "baseline", None, -1, 0, 0, None), (), asks),
        ),
    )
    found = {}
    section = ModelSection(name="builtin:tiny", dtype="float32")
    version = Version(0, "v0", models.digest_of(models.fetch(section)))
    for how in ("bank", "engine"):
        settings = WorkerSettings(
            section,
            StorageSection(),
            InnerSection(),
            AnsweringSection(how=how),
            engine=dataclasses.replace(SETTINGS, lora_rank=8) if how == "engine" else None,
        )
        worker = worker_class().options(runtime_env={"env_vars": ENVIRONMENT}).remote(how, settings)
        ray.get(worker.load_version.remote(version), timeout=280)
        found[how] = ray.get(worker.try_wave.remote(lease), timeout=280)
        ray.kill(worker)
    for ours, theirs in zip(found["bank"], found["engine"], strict=True):
        assert ours.failure is None and theirs.failure is None
        assert [a.text for a in ours.answers] == [a.text for a in theirs.answers]
        assert [x.logprob for x in ours.likelihoods] == pytest.approx([x.logprob for x in theirs.likelihoods], abs=1e-3)
    assert found["bank"][0].answers[0].text != found["bank"][1].answers[0].text
