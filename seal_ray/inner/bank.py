"""A bank: the adapters of a wave after training, with what each one's training was like."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from seal_ray.inner.answer import Ids, Sample, Sampling, generate
from seal_ray.inner.export import write_adapter
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.likelihood import likelihood
from seal_ray.inner.products import Adapters
from seal_ray.inner.stack import Stack
from seal_ray.inner.staging import staged
from seal_ray.records import Failure, Recipe


class Bank:
    """Adapters by the number they were handed in under. One without a recipe answers as the model does."""

    def __init__(
        self,
        frozen: Frozen,
        stack: Stack,
        failures: list[Failure | None],
        seeds: list[int],
        recipes: Sequence[Recipe | None],
        wanted: Mapping[int, list[str]],
        tokens_limit: int,
    ) -> None:
        self.frozen, self.stack, self.tokens_limit = frozen, stack, tokens_limit
        self.failures, self.seeds, self.recipes, self.wanted = failures, seeds, recipes, wanted
        self.losses: list[list[float]] = [[] for _ in recipes]
        self.taught = [0] * len(recipes)  # tokens that a teacher read for each
        self.written = [0] * len(recipes)  # tokens that each wrote while it was trained
        self.steps = 0  # optimiser steps of all adapters
        self.slots = 0  # adapters in training at once, at most
        self.turns = self.turns_taken = 0  # slots x steps, and those in which an adapter was training
        self.room = 8 * tokens_limit  # tokens of keys and values at once while answering
        self.weights: dict[int, Tensor] = {}  # of each trained adapter, `[size]` in the model's dtype, in main memory
        self.masters: dict[int, Tensor] = {}  # of each one that is trained on, the same in float32
        self.files: dict[int, dict[str, bytes]] = {}  # of these, what they became

    @property
    def occupied(self) -> float:
        """Share of slots x steps in which an adapter was training."""
        return self.turns_taken / self.turns if self.turns else 1.0

    @property
    def together(self) -> int:
        """Adapters that are brought to the device at once to answer: they take less than those in training did."""
        return 4 * max(1, self.slots)

    def __len__(self) -> int:
        return len(self.recipes)

    @contextmanager
    def attached(self) -> Iterator[None]:
        with self.frozen.attached(list(self.stack.widths)):
            yield

    def adapters(self, order: Sequence[int]) -> Mapping[str, Adapters]:
        """The adapters with these numbers, by layer and in this order."""
        if not order:
            return {}
        (scale,) = staged(self.frozen.device, [], [[self.scale(i) for i in order]])
        return self.stack.finished([self.weights[i] for i in order], scale)

    def scale(self, number: int) -> float:
        """What an adapter's product is multiplied by."""
        recipe = self.recipes[number]
        assert recipe is not None
        return recipe.alpha / recipe.rank

    def answer(self, prompts: Sequence[Sequence[Ids]], sampling: Sampling) -> list[list[list[Sample]]]:
        """Answers: `[adapter][prompt][sample]`. A failed adapter must not be asked: it would answer as the model."""
        self._one_each(prompts)
        return generate(self, prompts, sampling)

    def likelihood(self, pairs: Sequence[Sequence[tuple[Ids, Ids]]]) -> list[list[tuple[float, int]]]:
        """For each adapter and (prompt ids, target ids): the sum of log-probabilities and the number of tokens."""
        self._one_each(pairs)
        return likelihood(self, pairs)

    def export(self, number: int, directory: str | Path) -> None:
        """Writes one adapter in PEFT's format, together with the policy's adapter where the model has one."""
        if number not in self.weights:
            raise ValueError(f"adapter {number} was not trained: {self.failures[number] or 'it has no recipe'}")
        recipe = self.recipes[number]
        assert recipe is not None
        row = self.weights[number][None]
        own = {
            name: (self.stack.a(row, name)[0, : recipe.rank], self.stack.b(row, name)[0, :, : recipe.rank])
            for name in self.wanted[number]
        }
        write_adapter(self.frozen, own, recipe.rank, recipe.alpha, Path(directory))

    def _one_each(self, lists: Sequence[object]) -> None:
        if len(lists) != len(self.recipes):
            raise ValueError(
                f"{len(lists)} lists of questions for {len(self.recipes)} adapters; give one list for each"
            )
