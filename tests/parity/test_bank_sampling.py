"""Sampled answers: several to a question, each with a seed of its own, untouched by who else is answering."""

import dataclasses
from typing import Any

import pytest
import torch
from bank_models import DEVICE, log_likelihood, texts, tiny
from transformers import TopPLogitsWarper

from seal_ray.inner import Sampling, fit
from seal_ray.inner.frozen import Frozen
from seal_ray.records import Recipe

RECIPE = Recipe(rank=4, alpha=8, epochs=2, lr=3e-3)
SETS = [texts(i, [10 + 3 * i, 8]) for i in range(4)]
PROMPTS = [[e.ids[: 3 + k] for k, e in enumerate(own)] for own in SETS]


def test_samples_differ_and_come_again_with_their_seed():
    bank = fit(tiny("llama"), SETS, [RECIPE] * 4, [1, 2, 3, 4])
    sampling = Sampling(8, temperature=1.0, samples=3, seed=5)
    first = bank.answer(PROMPTS, sampling)
    assert first == bank.answer(PROMPTS, sampling)
    assert all(len(samples) == 3 for own in first for samples in own)
    assert len({s.ids for s in first[0][0]}) > 1
    other = bank.answer(PROMPTS, Sampling(8, temperature=1.0, samples=3, seed=6))
    assert [s.ids for s in first[0][0]] != [s.ids for s in other[0][0]]


def test_a_sample_does_not_depend_on_who_else_is_asked():
    bank = fit(tiny("llama"), SETS, [RECIPE] * 4, [1, 2, 3, 4])
    sampling = Sampling(8, temperature=1.0, samples=2)
    together = bank.answer(PROMPTS, sampling)
    alone = bank.answer([[], PROMPTS[1], [], []], sampling)
    assert alone[0] == [] and [[s.ids for s in k] for k in alone[1]] == [[s.ids for s in k] for k in together[1]]


def test_prompts_that_are_more_than_a_forward_takes_are_read_in_several_and_answered_alike(monkeypatch):
    model, recipes = tiny("llama"), [RECIPE, dataclasses.replace(RECIPE, rank=3), None, RECIPE]
    prompts = [[*own, tuple(range(3, 60 - 9 * i))] for i, own in enumerate(PROMPTS)]
    rows, own = [], Frozen.hidden

    def hidden(self: Frozen, ids: Any, *args: Any, **kwargs: Any) -> Any:
        rows.append(len(ids))
        return own(self, ids, *args, **kwargs)

    banks = [fit(model, SETS, recipes, [1, 2, 3, 4], tokens_limit=limit) for limit in (2048, 40)]
    monkeypatch.setattr(Frozen, "hidden", hidden)
    for sampling in (Sampling(6), Sampling(6, temperature=1.0, samples=2)):
        whole, pieces = (bank.answer(prompts, sampling) for bank in banks)
        assert [[[s.ids for s in k] for k in one] for one in whole] == [
            [[s.ids for s in k] for k in one] for one in pieces
        ]
    assert max(rows) > 150
    rows.clear()
    banks[1].room = 4096
    banks[1].answer(prompts, Sampling(1))
    assert max(rows) == 57 and sum(size <= 40 for size in rows) == len(rows) - 2, (
        "only what is longer itself takes more"
    )


def test_log_probabilities_are_those_of_the_ids():
    bank = fit(tiny("llama"), SETS, [RECIPE, None, RECIPE, RECIPE], [1, 2, 3, 4])
    for sampling in (Sampling(8, temperature=1.0), Sampling(8)):
        answers = bank.answer(PROMPTS, sampling)
        pairs = [[(p, answers[i][j][0].ids) for j, p in enumerate(own)] for i, own in enumerate(PROMPTS)]
        for own, scores in zip(answers, bank.likelihood(pairs), strict=True):
            for samples, (total, count) in zip(own, scores, strict=True):
                assert count == len(samples[0].ids)
                assert sum(samples[0].logprobs) == pytest.approx(total, abs=1e-3)


def test_samples_follow_the_models_distribution():
    model = tiny("llama")
    bank = fit(model, [[]], [None], [7])
    prompt = (5, 9, 12)
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([prompt], device=DEVICE)).logits[0, -1].cpu().div(1.5).softmax(-1)
    count = 4000
    drawn = bank.answer([[prompt]], Sampling(1, temperature=1.5, samples=count))[0][0]
    found = torch.bincount(torch.tensor([s.ids[0] for s in drawn]), minlength=len(wanted)) / count
    assert (found - wanted).abs().max() < 0.03


def test_answers_stop_where_they_should():
    bank = fit(tiny("llama"), SETS, [RECIPE] * 4, [1, 2, 3, 4])
    free = bank.answer(PROMPTS, Sampling(9))
    assert all(len(s.ids) == 9 and s.finish == "length" for own in free for k in own for s in k)
    token = free[2][1][0].ids[4]
    ended = bank.answer(PROMPTS, Sampling(9, eos_ids=(token,)))
    stopped = bank.answer(PROMPTS, Sampling(9, stop=lambda ids: token in ids))
    for i, own in enumerate(free):
        for j, (whole,) in enumerate(own):
            cut = whole.ids.index(token) + 1 if token in whole.ids else 9
            for (sample,) in (ended[i][j], stopped[i][j]):
                assert sample.ids == whole.ids[:cut]
                assert sample.finish == ("stop" if token in whole.ids else "length")


def test_an_adapter_that_was_not_trained_answers_as_the_model_does():
    model = tiny("qwen2")
    prompt, target = (5, 9, 12), (7, 8)
    plain = log_likelihood(model, prompt, target)
    bank = fit(model, [SETS[0], [], SETS[2]], [RECIPE, None, RECIPE], [1, 2, 3])
    scores = bank.likelihood([[(prompt, target)]] * 3)
    assert scores[1][0][0] == pytest.approx(plain, abs=1e-4)
    assert scores[0][0][0] != pytest.approx(plain, abs=1e-3)
    only = fit(model, [[], []], [None, None], [1, 2])
    assert only.likelihood([[], [(prompt, target)]]) == [[], [(pytest.approx(plain, abs=1e-4), 2)]]


def test_questions_that_can_not_be_asked_are_named():
    bank = fit(tiny("llama"), [[]], [None], [1])
    with pytest.raises(ValueError, match="prompt 0 of adapter 0 is empty"):
        bank.answer([[()]], Sampling(3))
    with pytest.raises(ValueError, match="context of 256"):
        bank.answer([[(5,) * 250]], Sampling(9))
    with pytest.raises(ValueError, match="2 lists of questions for 1 adapters"):
        bank.answer([[], []], Sampling(3))


def test_samples_come_from_the_likeliest_tokens_of_a_share_as_transformers_has_it():
    model = tiny("llama")
    bank = fit(model, [[]], [None], [7])
    prompt = (5, 9, 12)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt], device=DEVICE)).logits[0, -1].cpu().div(1.5)
    wanted = TopPLogitsWarper(0.6)(None, logits[None])[0].softmax(-1)  # type: ignore[arg-type]
    samples = bank.answer([[prompt]], Sampling(1, temperature=1.5, samples=2000, top_p=0.6))[0][0]
    counts = torch.bincount(torch.tensor([s.ids[0] for s in samples]), minlength=len(wanted)) / len(samples)
    assert 1 < (wanted > 0).sum() < 60 and not counts[wanted == 0].any()
    assert (counts - wanted).abs().sum() < 0.15
    for sample in samples[:20]:
        assert sample.logprobs[0] == pytest.approx(wanted[sample.ids[0]].log().item(), abs=1e-3)
