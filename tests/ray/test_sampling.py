"""Sampling with a real vLLM on CPU, in an actor of its own, held against transformers and PEFT in float32."""

import functools
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from adapters import write_adapter
from ray.cloudpickle import register_pickle_by_value
from ray.exceptions import RayTaskError

from seal_ray import models
from seal_ray.config import ModelSection
from seal_ray.errors import ConfigError, DataError, InfraError
from seal_ray.records import Version
from seal_ray.sampling.engine import ENVIRONMENT, Engine, EngineSettings, GeneratedText, GenerateRequest
from seal_ray.sampling.sampler import EditPrompt, Sampler

SETTINGS = EngineSettings(dtype="float32", max_length=256, lora_rank=8, adapters=2, kv_cache_gb=0.1)
CHOICE = {"type": "object", "properties": {"basic": {"type": "boolean"}}, "required": ["basic"]}


register_pickle_by_value(sys.modules[__name__])  # workers can not import this file


class Both(Sampler):
    """A sampler whose engine can be asked too, so that one start serves all tests."""

    def ask(self, method: str, *args: Any) -> Any:
        return getattr(self._running(), method)(*args)


@pytest.fixture(scope="module")
def folder() -> str:
    return models.fetch(ModelSection(name="builtin:tiny"))


@pytest.fixture(scope="module")
def actor() -> Iterator[Any]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    remote: Any = ray.remote
    made = (
        remote(Both).options(runtime_env={"env_vars": ENVIRONMENT}).remote(ModelSection(name="builtin:tiny"), SETTINGS)
    )
    try:
        yield made
    finally:
        ray.shutdown()


@pytest.fixture(scope="module")
def call(actor: Any) -> Callable[..., Any]:
    def call(method: str, *args: Any) -> Any:
        try:
            return ray.get(getattr(actor, method).remote(*args), timeout=400)
        except RayTaskError as error:
            raise getattr(error, "cause", error) from None

    call("start")
    return call


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_adapter(tmp_path_factory.mktemp("adapters") / "first", 1)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_adapter(tmp_path_factory.mktemp("adapters") / "second", 2)


def requests(count: int, **changes: Any) -> list[GenerateRequest]:
    base = GenerateRequest((1, 40, 41, 42), seed=7, max_tokens=24)
    return [replace(base, prompt_ids=(*base.prompt_ids, 50 + n), seed=7 + n, **changes) for n in range(count)]


@functools.cache
def loaded(folder: str, adapter: str | None) -> Any:
    return models.load(folder, dtype="float32", adapter=adapter)


def by_hand(folder: str, adapter: str | None, ids: tuple[int, ...]) -> torch.Tensor:
    """The log-probabilities of every next token, from transformers and PEFT."""
    with torch.no_grad():
        return loaded(folder, adapter)(torch.tensor([ids])).logits[0].log_softmax(-1)


def greedy(folder: str, adapter: str | None, ids: tuple[int, ...], count: int) -> tuple[int, ...]:
    found = list(ids)
    with torch.no_grad():
        for _ in range(count):
            found.append(int(loaded(folder, adapter)(torch.tensor([found])).logits[0, -1].argmax()))
    return tuple(found[len(ids) :])


def test_the_same_batch_gives_the_same_samples_and_another_seed_gives_others(call: Callable[..., Any]) -> None:
    once = call("ask", "generate", requests(6))
    assert call("ask", "generate", requests(6)) == once
    other = call("ask", "generate", [replace(r, seed=r.seed + 100) for r in requests(6)])
    assert all(a.ids != b.ids for a, b in zip(once, other, strict=True))
    assert all(len(s.ids) == len(s.logprobs) > 0 and s.text for s in once)


def test_log_probabilities_are_those_of_the_distribution_that_was_sampled_from(
    call: Callable[..., Any], folder: str
) -> None:
    for sample, request in zip(
        call("ask", "generate", (many := requests(3, temperature=0.7, top_p=0.8))), many, strict=True
    ):
        logits = by_hand(folder, None, request.prompt_ids + sample.ids)[len(request.prompt_ids) - 1 : -1] / 0.7
        for row, token, found in zip(logits.softmax(-1), sample.ids, sample.logprobs, strict=True):
            ordered, at = row.sort(descending=True)
            kept = at[(ordered.cumsum(0) - ordered) < 0.8]
            assert token in kept
            assert found == pytest.approx(float((row[token] / row[kept].sum()).log()), abs=1e-4)


def test_requests_of_one_batch_keep_to_their_own_adapters(
    call: Callable[..., Any], folder: str, first: str, second: str
) -> None:
    text = tuple(range(60, 100))
    adapters = [first, None, second, None]
    scores = call("ask", "score", [text] * 4, adapters)
    for found, adapter in zip(scores, adapters, strict=True):
        wanted = by_hand(folder, adapter, text)[:-1].gather(1, torch.tensor(text[1:])[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(found), wanted, atol=1e-4, rtol=0)
    answers = call("ask", "generate", [requests(1, temperature=0.0)[0]] * 4, adapters)
    for answer, adapter in zip(answers, adapters, strict=True):
        wanted = greedy(folder, adapter, requests(1)[0].prompt_ids, 24)
        assert answer.ids == wanted[: len(answer.ids)] and len(answer.ids) in (
            24,
            wanted.index(2) + 1 if 2 in wanted else 0,
        )
    assert len({a.ids for a in answers}) == 3


def test_a_folder_with_new_weights_is_read_anew(call: Callable[..., Any], tmp_path: Path) -> None:
    text = list(range(60, 80))
    folder = write_adapter(tmp_path / "adapter", 3)
    before = call("ask", "score", [text], folder)
    write_adapter(tmp_path / "adapter", 4)
    assert call("ask", "score", [text], folder) != before
    write_adapter(tmp_path / "adapter", 3)
    assert call("ask", "score", [text], folder) == before


def test_an_adapter_that_does_not_fit_is_refused(call: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"6 of the adapter's 6 modules .* model\.layers\.0\.attention\.o_proj"):
        call("ask", "load", write_adapter(tmp_path / "strange", 1, block="attention"))
    with pytest.raises(ConfigError, match="rank 16 in an engine for rank 8"):
        call("ask", "load", write_adapter(tmp_path / "large", 1, rank=16))
    with pytest.raises(DataError, match="adapter_model"):
        call("ask", "load", str(tmp_path))


def test_an_adapter_of_zeros_is_taken_and_changes_nothing(call: Callable[..., Any], tmp_path: Path) -> None:
    zero = write_adapter(tmp_path / "zero", 1, strength=0.0)
    assert call("ask", "generate", requests(2), zero) == call("ask", "generate", requests(2))


def test_a_schema_is_kept_to(call: Callable[..., Any]) -> None:
    samples = call("ask", "generate", requests(3, schema=CHOICE, max_tokens=120))
    done = [s.text for s in samples if s.finish == "stop"]
    assert done and all(text.startswith('{"basic":') and text == "".join(text.split()) for text in done)


def test_a_text_ends_where_it_is_told_to(call: Callable[..., Any]) -> None:
    free = call("ask", "generate", requests(1, temperature=0.0))[0]
    stop_id = free.ids[5]
    ended = call("ask", "generate", requests(1, temperature=0.0, stop_ids=(stop_id,)))[0]
    assert ended.finish == "stop" and ended.ids == free.ids[: free.ids.index(stop_id) + 1]


# The sampler


def version(number: int, kind: Any = "base") -> Version:
    return Version(number, f"digest-{number}", "base", kind=kind)


def chunk(**changes: Any) -> list[EditPrompt]:
    base = EditPrompt("task", 0, (1, 40, 41, 42), seed=3, max_tokens=16, style="plain")
    return [replace(base, task=f"task-{t}", slot=s, seed=10 * t + s, **changes) for t in range(2) for s in range(2)]


def test_edits_say_who_wrote_them_for_what_and_how(call: Callable[..., Any]) -> None:
    call("load_version", version(0))
    assert call("ping") == "digest-0"
    edits = call("sample", chunk())
    assert [(e.task, e.slot, e.seed) for e in edits] == [(p.task, p.slot, p.seed) for p in chunk()]
    assert {(e.version, e.style, e.content, e.failure) for e in edits} == {("digest-0", "plain", None, None)}
    assert len({e.id for e in edits}) == 4 and all(len(e.ids) == len(e.logprobs) for e in edits)
    assert call("sample", chunk()) == edits


def test_a_new_version_writes_other_edits_without_a_new_engine(
    call: Callable[..., Any], first: str, second: str
) -> None:
    written = {}
    for number, adapter in ((0, None), (1, first), (2, second), (3, first)):
        call("load_version", version(number, "adapter" if adapter else "base"), adapter)
        written[number] = call("sample", chunk())
    for a, b in itertools.combinations(written, 2):
        same = [x.ids == y.ids for x, y in zip(written[a], written[b], strict=True)]
        assert all(same) if (a, b) == (1, 3) else not all(same)
        assert not {e.id for e in written[a]} & {e.id for e in written[b]}


def test_a_request_that_can_not_be_sampled_fails_alone_and_is_never_an_empty_text(call: Callable[..., Any]) -> None:
    call("load_version", version(0))
    prompts = chunk()
    prompts[1] = replace(prompts[1], prompt_ids=tuple(range(3, 303)))
    prompts[2] = replace(prompts[2], schema={"type": "nonsense"})
    edits = call("sample", prompts)
    assert [e.failure and (e.failure.kind, e.failure.blame) for e in edits] == [
        None,
        ("too_long", "data"),
        ("sampling", "infra"),
        None,
    ]
    assert all(bool(e.ids) == (e.failure is None) for e in edits)
    alone = call("sample", [replace(chunk()[0], schema={"type": "nonsense"})])
    assert alone[0].failure and alone[0].failure.blame == "infra"


def test_a_version_whose_adapter_is_missing_is_refused(call: Callable[..., Any]) -> None:
    with pytest.raises(InfraError, match="version 5"):
        call("load_version", version(5, "adapter"))


# Without an engine


def test_a_sampler_that_was_not_started_says_so() -> None:
    with pytest.raises(InfraError, match="call start first"):
        Sampler(ModelSection(name="builtin:tiny"), SETTINGS).sample(chunk())


def test_an_adapter_that_vllm_takes_but_does_not_use_is_found(folder: str, first: str) -> None:
    """About the canary alone: an engine that scores as if there were no adapter."""

    class Deaf(Engine):
        def __init__(self) -> None:
            self.model_dir, self.max_length, self._base_probe = folder, 64, None

        def _score(self, texts: Any, loras: Any) -> list[list[float]]:
            return [[-1.0] for _ in texts]

    with pytest.raises(InfraError, match="answers as without it"):
        Deaf()._check_effect(first, "request")


def test_an_engine_that_fails_at_everything_is_not_taken_for_bad_requests(folder: str) -> None:
    """About sorting failures alone: an engine that is broken."""

    class Broken(Engine):
        def __init__(self) -> None:
            self.model_dir, self.max_length = folder, 64

        def generate(self, requests: Any, adapter: Any = None) -> list[GeneratedText]:
            raise RuntimeError("device lost")

    sampler = Sampler(ModelSection(name="builtin:tiny"), SETTINGS)
    sampler._engine, sampler._version = Broken(), version(0)
    with pytest.raises(InfraError, match="device lost"):
        sampler.sample(chunk())
