"""What an engine does whose vLLM fails, and what becomes of texts that are none. vLLM is played: it keeps what it was
given until a step has answered it, as the real one does.
"""

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from seal_ray.config import ModelSection
from seal_ray.errors import InfraError
from seal_ray.records import Edit, Version
from seal_ray.sampling.engine import Engine, EngineSettings, GenerateRequest
from seal_ray.sampling.sampler import EditPrompt, Sampler

BAD = 9  # a step with a prompt that begins with it fails the first time, as one for which memory is short
REFUSED = 8  # a prompt that begins with it is not even taken


class PlayedModel:
    """vLLM's LLM: every request gets its prompt's last token as its text, two requests a step."""

    def __init__(self) -> None:
        self.llm_engine = SimpleNamespace(has_unfinished_requests=lambda: bool(self.waiting))
        self.waiting: dict[int, list[int]] = {}
        self.numbers = itertools.count()
        self.failed = False
        self.lost = 0  # outputs that never come
        self.ended: Callable[[int], tuple[str, float]] = lambda _: ("stop", -1.0)

    def generate(self, prompts: list[Any], *_: Any, **__: Any) -> list[Any]:
        added = []
        for prompt in prompts:
            if prompt["prompt_token_ids"][0] == REFUSED:
                for number in added:
                    del self.waiting[number]
                raise ValueError("this prompt is refused")
            added.append(next(self.numbers))
            self.waiting[added[-1]] = prompt["prompt_token_ids"]
        outputs = []
        while self.waiting:
            step = list(self.waiting)[:2]
            if any(self.waiting[number][0] == BAD for number in step) and not self.failed:
                self.failed = True
                raise RuntimeError("a kernel failed")
            outputs += [self._output(number, self.waiting.pop(number)) for number in step]
        return outputs[self.lost :]

    def _output(self, number: int, ids: list[int]) -> Any:
        finish, logprob = self.ended(ids[-1])
        at = {ids[-1]: SimpleNamespace(logprob=logprob)}
        text = SimpleNamespace(token_ids=[ids[-1]], logprobs=[at], text=str(ids[-1]), finish_reason=finish)
        return SimpleNamespace(request_id=str(number), outputs=[text])


class PlayedEngine(Engine):
    def __init__(self) -> None:
        self.model_dir, self.max_length, self.settings = "/base", 64, EngineSettings(device="gpu")
        self._vllm: Any = SimpleNamespace(SamplingParams=lambda **_: None)
        self._llm: Any = PlayedModel()


def prompts(*first: int) -> list[EditPrompt]:
    return [EditPrompt("t", slot, (number, 20 + slot), seed=1) for slot, number in enumerate(first)]


def sampled(engine: Engine, chunk: list[EditPrompt]) -> list[Edit]:
    sampler = Sampler(ModelSection(), EngineSettings())
    sampler._engine, sampler._version = engine, Version(0, "v", "b")
    return sampler.sample(chunk)


def test_an_engine_whose_batch_broke_off_gives_no_more_texts() -> None:
    """What is left in vLLM would be answered with the next batch, and its texts be taken for that one's."""
    engine = PlayedEngine()
    good = GenerateRequest((1, 30), seed=1)
    with pytest.raises(InfraError, match="a kernel failed"):
        engine.generate([good, good, good, GenerateRequest((BAD, 31), seed=1), good])
    for _ in range(2):
        with pytest.raises(InfraError, match="broke off"):
            engine.generate([good])
    with pytest.raises(InfraError, match="broke off"):
        engine.score([[1, 2]])


def test_a_chunk_whose_engine_broke_off_goes_to_another_sampler_whole() -> None:
    with pytest.raises(InfraError, match="a kernel failed"):
        sampled(PlayedEngine(), prompts(1, 1, BAD, 1, 1))


def test_a_request_that_is_refused_at_once_fails_alone_and_the_others_have_their_own_texts() -> None:
    edits = sampled(PlayedEngine(), prompts(1, 1, REFUSED, 1))
    assert [e.failure and e.failure.kind for e in edits] == [None, None, "sampling", None]
    assert [e.text for e in edits] == ["20", "21", "", "23"]


def test_answers_that_are_fewer_than_what_was_asked_are_given_to_nobody() -> None:
    engine = PlayedEngine()
    engine._llm.lost = 1
    with pytest.raises(InfraError, match="2 answers to 3 prompts"):
        sampled(engine, prompts(1, 1, 1))


@pytest.mark.parametrize(
    ("finish", "logprob", "kind", "blame"),
    [
        ("stop", float("nan"), "nan_logprob", "data"),
        ("length", float("-inf"), "nan_logprob", "data"),
        ("error", -1.0, "sampling", "infra"),
        ("abort", -1.0, "sampling", "infra"),
    ],
)
def test_a_text_that_broke_off_or_has_no_numbers_is_no_edit(finish: str, logprob: float, kind: str, blame: str) -> None:
    engine = PlayedEngine()
    engine._llm.ended = lambda token: (finish, logprob) if token == 21 else ("stop", -1.0)
    good, bad, other = sampled(engine, prompts(1, 1, 1))
    assert (good.text, good.failure, other.failure) == ("20", None, None)
    assert bad.failure and (bad.failure.kind, bad.failure.blame) == (kind, blame)
    assert bad.text == "" and bad.logprobs == ()
