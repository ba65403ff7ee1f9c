"""Answers that adapters write in the midst of their training, to be taught at them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seal_ray.inner.answer import Sample, Sampling, continuations
from seal_ray.inner.bank import Bank
from seal_ray.inner.recipe import writing_seed
from seal_ray.records import Example, Recipe


@dataclass(frozen=True)
class Speaker:
    """An adapter that is to write, and what it goes on from."""

    recipe: Recipe
    wanted: list[str]  # the layers that it has
    weights: Tensor
    seed: int  # of its training
    epoch: int
    examples: Sequence[Example]

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        return [e.ids[: e.first] for e in self.examples]


@torch.no_grad()
def written(bank: Bank, speakers: Sequence[Speaker]) -> list[list[Sample]]:
    """For each adapter an answer to each prompt, as it speaks now: drawn at temperature 1. Only while attached."""
    out: list[list[Sample]] = [[] for _ in speakers]
    for limit in sorted({w.recipe.answer_tokens for w in speakers}):
        own = [n for n, w in enumerate(speakers) if w.recipe.answer_tokens == limit]
        some = [speakers[n] for n in own]
        speaking = Bank(
            bank.frozen,
            bank.stack,
            [None] * len(some),
            [writing_seed(w.seed, w.epoch) for w in some],
            [w.recipe for w in some],
            {n: w.wanted for n, w in enumerate(some)},
            bank.tokens_limit,
        )
        speaking.slots = len(some)
        speaking.weights = {n: w.weights for n, w in enumerate(some)}
        sampling = Sampling(limit, temperature=1.0, eos_ids=bank.frozen.end_ids)
        answers = continuations(speaking, [w.prompts for w in some], sampling)
        for n, samples in zip(own, answers, strict=True):
            out[n] = [sample for (sample,) in samples]
    return out
