"""A lease's attempts become trials: in their order, whatever the waves, and one's failure is nobody else's."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from seal_ray.inner import BankAnswerer, Sample
from seal_ray.inner.capacity import free_memory
from seal_ray.models.builtin import make_tiny
from seal_ray.records import Ask, Attempt, Candidate, Example, Recipe, Trial, decode, encode
from seal_ray.trials import wave
from seal_ray.trials.wave import try_wave

RECIPE = Recipe(rank=8, alpha=16, epochs=2, lr=3e-3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: Any) -> Any:
    folder: Path = tmp_path_factory.mktemp("tiny")
    make_tiny(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def attempt(tokenizer: Any, number: int, recipe: Recipe | None = RECIPE, texts: int = 2, **changes: Any) -> Attempt:
    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text)["input_ids"])

    examples = tuple(
        Example(i, (True,) * len(i))
        for i in (ids(f"The ship {number} has {k} masts. " * (1 + k)) for k in range(texts))
    )
    asks = tuple(
        Ask(f"q{k}", ids(f"Question {k}: what of ship {number}? Answer:"), (ids(" two"), ids(" three masts")), 6 + k)
        for k in range(3)
    )
    candidate = Candidate(f"c{number}", f"t{number}", "edit" if recipe else "baseline", None, 0, 0, number, recipe)
    made = Attempt(candidate, examples if recipe else (), asks)
    return dataclasses.replace(made, **changes)


def same(a: Trial, b: Trial) -> None:
    assert (a.candidate, a.task, a.failure) == (b.candidate, b.task, b.failure)
    assert a.losses == pytest.approx(b.losses, abs=1e-5)
    assert [(x.question, x.text, x.sample) for x in a.answers] == [(x.question, x.text, x.sample) for x in b.answers]
    assert [x.logprob for x in a.likelihoods] == pytest.approx([x.logprob for x in b.likelihoods], abs=1e-3)


def mixed(tokenizer: Any) -> list[Attempt]:
    longer = dataclasses.replace(RECIPE, epochs=5, rank=4)
    return [
        attempt(tokenizer, 0),
        attempt(tokenizer, 1, None),
        attempt(tokenizer, 2, longer),
        attempt(tokenizer, 3, RECIPE, 4),
        attempt(tokenizer, 4, None),
        attempt(tokenizer, 5, longer, 1),
    ]


def test_trials_come_in_the_order_of_the_attempts_whatever_the_waves(tiny):
    model, tokenizer = tiny
    attempts = mixed(tokenizer)
    whole = try_wave(model, tokenizer, attempts, worker="w7")
    assert [t.candidate for t in whole] == [a.candidate.id for a in attempts]
    for given, trial in zip(attempts, whole, strict=True):
        assert trial.failure is None and trial.worker == "w7"
        assert len(trial.losses) == given.steps == trial.cost.steps
        assert [(x.question, x.gold) for x in trial.likelihoods] == [
            (k.question, g) for k in given.asks for g in (0, 1)
        ]
        assert [x.question for x in trial.answers] == ["q0", "q1", "q2"]
        assert decode(Trial, encode(trial)) == trial
    for size in (1, 2, 4):
        for a, b in zip(whole, try_wave(model, tokenizer, attempts, wave=size), strict=True):
            same(a, b)


def test_the_same_attempts_give_the_same_trials_to_the_bit(tiny):
    model, tokenizer = tiny
    for temperature, samples in ((0.0, 1), (1.0, 3)):
        attempts = [
            dataclasses.replace(
                one, asks=tuple(dataclasses.replace(k, temperature=temperature, samples=samples) for k in one.asks)
            )
            for one in mixed(tokenizer)
        ]
        a, b = (try_wave(model, tokenizer, attempts) for _ in range(2))
        assert [dataclasses.replace(t, cost=b[i].cost) for i, t in enumerate(a)] == b
        assert all(len(t.answers) == 3 * samples for t in a)


def test_a_dropped_candidate_is_a_failure_of_its_own_and_is_asked_nothing(tiny):
    model, tokenizer = tiny
    attempts = mixed(tokenizer)
    calm = try_wave(model, tokenizer, attempts)
    asked: list[str] = []

    def dropped(candidate: str) -> bool:
        asked.append(candidate)
        return candidate == "c3" and asked.count("c3") > 4

    trials = try_wave(model, tokenizer, attempts, wave=3, dropped=dropped)
    failure = trials[3].failure
    assert failure is not None and failure.kind == "dropped" and "of 8 optimiser steps" in failure.message
    assert 0 < len(trials[3].losses) < 8 and trials[3].answers == ()
    for n in (0, 1, 2, 4, 5):
        same(calm[n], trials[n])


@pytest.mark.parametrize("slots", [0, 2])
def test_bad_candidates_fail_with_their_kind_and_leave_their_neighbours_alone(tiny, slots):
    """With two slots whoever is well takes the place of somebody who broke."""
    model, tokenizer = tiny
    good = [attempt(tokenizer, 0), attempt(tokenizer, 1, None), attempt(tokenizer, 2)]
    calm = try_wave(model, tokenizer, good)
    long = Example((5,) * 2049, (True,) * 2049)
    silent = Example((5, 6, 7), (True, False, False))
    wild = dataclasses.replace(RECIPE, lr=1e30, clip=0.0, epochs=4)
    huge = Ask("q", (5,) * 8190, (), 64)
    bad = {
        "no_text": attempt(tokenizer, 10, examples=()),
        "no_text ": attempt(tokenizer, 11, examples=(silent,)),
        "too_long": attempt(tokenizer, 12, examples=(long,)),
        "too_long ": attempt(tokenizer, 13, asks=(huge,)),
        "nan_loss": attempt(tokenizer, 14, wild),
        "bad_token": attempt(tokenizer, 15, examples=(Example((5, 99999), (True, True)),)),
        "bad_token ": attempt(tokenizer, 16, asks=(Ask("q", (5, -1), (), 4),)),
        "bad_question": attempt(tokenizer, 17, asks=(Ask("q", (), (), 4),)),
    }
    found = try_wave(model, tokenizer, [good[0], *bad.values(), *good[1:]], wave=slots)
    for expected, trial in zip(bad, found[1:-2], strict=True):
        assert trial.failure is not None and trial.failure.kind == expected.strip()
        assert trial.failure.blame == "data" and trial.failure.message
        assert trial.answers == () and trial.likelihoods == ()
        encode(trial)
    for a, b in zip([found[0], *found[-2:]], calm, strict=True):
        same(a, b)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (dataclasses.replace(RECIPE, targets=("query",)), "target 'query' is no linear layer"),
        (dataclasses.replace(RECIPE, rank=65), "rank 65 is over the width 64"),
        (dataclasses.replace(RECIPE, rank=0), "rank 0 is not a rank"),
        (dataclasses.replace(RECIPE, moments="int4"), "moments in 'int4' are unknown; use float32, bfloat16, int8"),
        (dataclasses.replace(RECIPE, lr=float("nan")), "learning rate nan"),
    ],
)
def test_a_recipe_that_suits_no_candidate_stops_before_anything_starts(tiny, monkeypatch, recipe, message):
    model, tokenizer = tiny
    monkeypatch.setattr(wave, "fit", lambda *_, **__: pytest.fail("it started"))
    with pytest.raises(ValueError, match=message):
        try_wave(model, tokenizer, [attempt(tokenizer, 0), attempt(tokenizer, 1, recipe)], wave=1)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_running_out_of_memory_halves_the_wave_and_loses_nothing(tiny, monkeypatch, error):
    model, tokenizer = tiny
    attempts = mixed(tokenizer)
    calm = try_wave(model, tokenizer, attempts)
    sizes, own = [], wave.fit

    def small(model: Any, sets: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(sets))
        if len(sets) > 2:
            raise error
        return own(model, sets, *args, **kwargs)

    monkeypatch.setattr(wave, "fit", small)
    for a, b in zip(calm, try_wave(model, tokenizer, attempts), strict=True):
        same(a, b)
    assert sizes[0] == 6 and max(s for s in sizes if s <= 2) == 2


def test_running_out_of_memory_while_answering_loses_nothing_either(tiny):
    model, tokenizer = tiny
    attempts = mixed(tokenizer)
    calm = try_wave(model, tokenizer, attempts)
    sizes = []

    class Tight(BankAnswerer):
        def answer(self, bank: Any, prompts: Any, sampling: Any) -> Any:
            sizes.append(len(prompts))
            if len(prompts) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().answer(bank, prompts, sampling)

    for a, b in zip(calm, try_wave(model, tokenizer, attempts, answerer=Tight()), strict=True):
        same(a, b)
    assert sizes[0] == 6 and set(sizes[1:]) == {3}


def test_only_a_candidate_that_does_not_fit_alone_fails_for_memory(tiny, monkeypatch):
    model, tokenizer = tiny
    attempts = mixed(tokenizer)
    own = wave.fit

    def picky(model: Any, sets: Any, recipes: Any, seeds: Any, **kwargs: Any) -> Any:
        if 3 in seeds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(model, sets, recipes, seeds, **kwargs)

    monkeypatch.setattr(wave, "fit", picky)
    found = try_wave(model, tokenizer, attempts)
    assert [t.candidate for t in found if t.failure] == ["c3"]
    failure = found[3].failure
    assert failure is not None and (failure.kind, failure.blame) == ("out_of_memory", "infra")


def test_a_candidate_that_fits_only_with_checkpointing_gets_it_and_no_other_does(tiny, monkeypatch):
    model, tokenizer = tiny
    attempts = mixed(tokenizer)
    calm = try_wave(model, tokenizer, attempts)
    saved, own = [], wave.fit

    def tight(model: Any, sets: Any, recipes: Any, seeds: Any, **kwargs: Any) -> Any:
        if 3 in seeds and not kwargs["checkpointing"]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if kwargs["checkpointing"]:
            saved.append(list(seeds))
        return own(model, sets, recipes, seeds, **kwargs)

    monkeypatch.setattr(wave, "fit", tight)
    for a, b in zip(calm, try_wave(model, tokenizer, attempts), strict=True):
        same(a, b)
    assert saved == [[3]]


def test_another_error_is_not_taken_for_lack_of_memory(tiny, monkeypatch):
    model, tokenizer = tiny

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the device fell off")

    monkeypatch.setattr(wave, "fit", broken)
    with pytest.raises(RuntimeError, match="fell off"):
        try_wave(model, tokenizer, mixed(tokenizer))


def test_an_answer_ends_before_its_stop_text(tiny):
    model, tokenizer = tiny
    free = [dataclasses.replace(k, stop=(), max_tokens=12) for k in attempt(tokenizer, 0).asks]
    whole = try_wave(model, tokenizer, [attempt(tokenizer, 0, asks=tuple(free))])[0].answers
    text = whole[1].text
    assert len(text) > 4
    stop = text[3:5]
    asks = (free[0], dataclasses.replace(free[1], stop=(stop,)), free[2])
    found = try_wave(model, tokenizer, [attempt(tokenizer, 0, asks=asks)])[0].answers
    assert [a.question for a in found] == ["q0", "q1", "q2"]
    assert found[1].text == text[: text.find(stop)] and found[1].finish == "stop"
    assert found[1].tokens < whole[1].tokens
    assert (found[0].text, found[2].text) == (whole[0].text, whole[2].text)


def test_another_answerer_is_asked_in_the_banks_stead_and_told_the_stops(tiny):
    model, tokenizer = tiny
    seen = []

    class Parrot(BankAnswerer):
        def answer(self, bank: Any, prompts: Any, sampling: Any) -> Any:
            seen.append((sampling.max_tokens, sampling.stop_texts))
            ids = tuple(tokenizer("yes\nno")["input_ids"])
            return [[[Sample(ids, (-0.5,) * len(ids), "stop")] for _ in own] for own in prompts]

    found = try_wave(model, tokenizer, [attempt(tokenizer, 0), attempt(tokenizer, 1, None)], answerer=Parrot())
    assert seen == [(6, ("\n",)), (7, ("\n",)), (8, ("\n",))]
    assert {a.text for t in found for a in t.answers} == {"yes"}


def test_an_answer_without_numbers_is_a_failure_and_no_answer(tiny):
    model, tokenizer = tiny

    class Broken(BankAnswerer):
        def answer(self, bank: Any, prompts: Any, sampling: Any) -> Any:
            return [[[Sample((), (), "nan" if i == 0 else "stop")] for _ in own] for i, own in enumerate(prompts)]

    class Unlikely(BankAnswerer):
        def likelihood(self, bank: Any, pairs: Any) -> Any:
            return [[(float("nan" if i == 0 else 0), 1) for _ in own] for i, own in enumerate(pairs)]

    attempts = [attempt(tokenizer, 0), attempt(tokenizer, 1)]
    for answerer, kind in ((Broken(), "nan_answer"), (Unlikely(), "nan_likelihood")):
        bad, good = try_wave(model, tokenizer, attempts, answerer=answerer)
        assert bad.failure is not None and bad.failure.kind == kind and bad.answers == () and bad.likelihoods == ()
        assert good.failure is None and good.answers
        encode(bad)


@pytest.mark.parametrize("finish", ["error", "abort"])
def test_an_answer_that_an_engine_gave_up_is_asked_for_elsewhere_and_is_no_wrong_one(tiny, finish):
    model, tokenizer = tiny

    class GivingUp(BankAnswerer):
        def answer(self, bank: Any, prompts: Any, sampling: Any) -> Any:
            return [[[Sample((), (), finish if i == 0 else "stop")] for _ in own] for i, own in enumerate(prompts)]

    bad, good = try_wave(model, tokenizer, [attempt(tokenizer, 0), attempt(tokenizer, 1)], answerer=GivingUp())
    assert bad.failure and bad.failure.blame == "infra" and finish in bad.failure.message and bad.answers == ()
    assert good.failure is None and good.answers


def test_cost_is_shared_out_by_use(tiny):
    model, tokenizer = tiny
    small, none, large = try_wave(
        model,
        tokenizer,
        [attempt(tokenizer, 0, RECIPE, 1), attempt(tokenizer, 1, None), attempt(tokenizer, 2, RECIPE, 5)],
    )
    assert none.cost.fit_seconds == 0 and none.cost.tokens == 0 and none.cost.answer_seconds > 0
    assert large.cost.fit_seconds / small.cost.fit_seconds == pytest.approx(large.cost.tokens / small.cost.tokens)
    for trial in (small, none, large):
        assert trial.cost.seconds == pytest.approx(trial.cost.fit_seconds + trial.cost.answer_seconds)


def test_free_memory_is_less_than_all_there_is():
    free = free_memory(torch.device("cpu"))
    total = next(int(x.split()[1]) for x in Path("/proc/meminfo").read_text().splitlines() if x.startswith("MemTotal"))
    assert 0 < free < total * 1024


def test_memory_that_the_allocator_keeps_unused_counts_as_free():
    code = (
        "import torch\n"
        "from seal_ray.inner.capacity import kept_unused\n"
        "held = [torch.ones(2_500_000) for _ in range(100)]\n"
        "full = kept_unused()\n"
        "del held\n"
        "print(full, kept_unused())"
    )
    env = os.environ | {"MALLOC_TRIM_THRESHOLD_": str(2**34), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    full, after = map(int, done.stdout.split())
    assert full < 0.1e9 and 1.0e9 <= after < 1.1e9


def test_a_wrong_answers_likelihood_is_taken_like_a_right_ones(tiny):
    model, tokenizer = tiny
    plain = attempt(tokenizer, 0)
    asks = tuple(dataclasses.replace(a, distractor_ids=a.gold_ids) for a in plain.asks)
    (trial,) = try_wave(model, tokenizer, [dataclasses.replace(plain, asks=asks)])
    assert not trial.failure and trial.likelihoods
    assert [(g.question, g.gold, g.tokens) for g in trial.distractors] == [
        (g.question, g.gold, g.tokens) for g in trial.likelihoods
    ]
    for right, wrong in zip(trial.likelihoods, trial.distractors, strict=True):
        assert wrong.logprob == pytest.approx(right.logprob, abs=1e-4)
    (bare,) = try_wave(model, tokenizer, [plain])
    assert not bare.distractors
    room = model.config.max_position_embeddings
    endless = tuple(dataclasses.replace(a, distractor_ids=((5,) * room, *a.gold_ids)) for a in plain.asks)
    (fitting,) = try_wave(model, tokenizer, [dataclasses.replace(plain, asks=endless)])
    assert not fitting.failure and {d.gold for d in fitting.distractors} >= {1}, (
        "a wrong answer that fits nowhere is left out"
    )
    assert 0 not in {d.gold for d in fitting.distractors}
