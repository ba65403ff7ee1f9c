"""The loop of one worker of a policy update. It knows rows, losses and steps; the engine knows how weights are sharded.

All workers run it side by side and meet in every forward, so each takes the same number of rows; what one of them
learns about a batch is summed over all, and every worker sees the same figures.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from seal_ray.config import PolicySection
from seal_ray.errors import Unlearnable
from seal_ray.events import UpdateStep
from seal_ray.policy.job import StepLog
from seal_ray.policy.learner import PackedRow, divergence, pack
from seal_ray.policy.lessons import Lesson
from seal_ray.policy.losses import loss, size
from seal_ray.policy.packing import batches, deal
from seal_ray.policy.schedule import learning_rate


class TrainingEngine(Protocol):
    """Where the weights live. Every method is called by all workers together."""

    rank: int
    world: int
    device: torch.device
    adapter_rank: int

    def forward(self, row: PackedRow) -> tuple[Tensor, Tensor]: ...

    def logits(self, row: PackedRow, *, of_base: bool) -> Tensor: ...

    def backward(self, loss: Tensor) -> None: ...

    def step(self, lr: float) -> float: ...

    def sum(self, values: Tensor) -> list[float]:
        """Each value summed over all workers."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """What each worker has, for all of them."""
        ...

    def write(self, folder: Path, tag: str) -> None:
        """A checkpoint below the folder: all that is needed to go on from here."""
        ...

    def read(self, folder: Path, tag: str) -> None: ...

    def save(self, send: Callable[[str, str], None]) -> None:
        """Hand the new version's files over, each by its name and its path on this node."""
        ...


@dataclass(frozen=True)
class Scan:
    """What the model says of some lessons without learning from them."""

    logprobs: list[list[Tensor]]  # of each lesson, for each of its texts, on CPU
    entropy: float  # nats per token

    def likelihood(self) -> tuple[float, ...]:
        """Mean log-probability per token of each lesson's own text."""
        return tuple(float(texts[0].mean()) for texts in self.logprobs)

    def loss(self) -> float:
        """Negative log-likelihood per token."""
        own = [texts[0] for texts in self.logprobs]
        return -sum(float(t.sum()) for t in own) / sum(len(t) for t in own)


class Training:
    """One worker's part in learning from the lessons."""

    def __init__(
        self,
        engine: TrainingEngine,
        section: PolicySection,
        lessons: Sequence[Lesson],
        held: Sequence[Lesson],
        seed: int,
    ) -> None:
        self.engine, self.section = engine, section
        self.lessons, self.held = lessons, held
        self.batches = batches(len(lessons), section.epochs, section.global_batch, seed)
        self.tokens = [lesson.tokens for lesson in lessons]
        self.reference: list[list[Tensor]] = []

    def run(
        self,
        tell: Callable[[StepLog], None],
        alive: Callable[[], None],
        validated: Callable[[int, float], None],
        after_step: Callable[[int], None],
        first: int = 0,
    ) -> None:
        """All steps from `first` on. `tell` and `validated` are called with the same figures on every worker."""
        per_epoch = math.ceil(len(self.lessons) / self.section.global_batch)
        for number in range(first, len(self.batches)):
            tell(self._step(number, alive))
            if self.held and (number + 1) % per_epoch == 0:
                validated((number + 1) // per_epoch, self.scan(self.held, alive).loss())
            after_step(number + 1)  # at the end: whoever goes on from here does not come back to what stands above

    def _step(self, number: int, alive: Callable[[], None]) -> StepLog:
        began = time.monotonic()
        chosen = self.batches[number]
        batch = size([self.lessons[i] for i in chosen])
        sums = torch.zeros(4, dtype=torch.float64)  # loss, kl, entropy, tokens
        for mine in self._rows(chosen, self.tokens):
            row = pack([t for i in mine for t in self.lessons[i].texts], self.engine.device)
            logprobs, entropies = self.engine.forward(row)
            total = logprobs.sum() * 0
            rest = iter(logprobs.split(list(row.lengths))) if row.lengths else iter(())
            for i in mine:
                lesson = self.lessons[i]
                now = [next(rest) for _ in lesson.texts]
                before = [t.to(now[0].device) for t in self.reference[i]]
                part = loss(lesson, now, before, batch, self.section)
                if not torch.isfinite(part):
                    raise Unlearnable(
                        f"the loss is {float(part.detach())} in step {number + 1} of the policy update, "
                        f"at edit {lesson.edit} of task {lesson.task}",
                        hint="lower policy.lr, or look at that edit; nothing of this update was kept",
                    )
                total = total + part
                change = torch.cat([(n - b).detach() for n, b in zip(now, before, strict=True)])
                sums += torch.tensor([float(part.detach()), float((change.exp() - 1 - change).sum()), 0.0, len(change)])
            if mine:
                sums[2] += float(entropies.sum())
            self.engine.backward(total)
            alive()
        lr = learning_rate(number, len(self.batches), self.section)
        norm = self.engine.step(lr)
        if not math.isfinite(norm):
            edits = ", ".join(self.lessons[i].edit for i in chosen)
            raise Unlearnable(
                f"the gradient is {norm} in step {number + 1} of the policy update, with edits {edits}",
                hint="lower policy.lr, or look at these edits; nothing of this update was kept",
            )
        totals = self.engine.sum(sums)
        return StepLog(
            step=number + 1,
            loss=totals[0],
            lr=lr,
            grad_norm=norm,
            kl=totals[1] / totals[3],
            entropy=totals[2] / totals[3],
            tokens=int(totals[3]),
            seconds=time.monotonic() - began,
        )

    @torch.no_grad()
    def scan(self, lessons: Sequence[Lesson], alive: Callable[[], None]) -> Scan:
        """What the model as it is says of these lessons; every worker gets all of it."""
        scored: dict[int, list[Tensor]] = {}
        sums = torch.zeros(2, dtype=torch.float64)
        for mine in self._rows(range(len(lessons)), [lesson.tokens for lesson in lessons]):
            row = pack([t for i in mine for t in lessons[i].texts], self.engine.device)
            logprobs, entropies = self.engine.forward(row)
            rest = iter(logprobs.cpu().split(list(row.lengths))) if row.lengths else iter(())
            for i in mine:
                scored[i] = [next(rest) for _ in lessons[i].texts]
            if mine:
                sums += torch.tensor([float(entropies.sum()), len(entropies)])
            alive()
        everyone = self.engine.gather({i: [t.tolist() for t in texts] for i, texts in scored.items()})
        merged = {i: [torch.tensor(t) for t in texts] for part in everyone for i, texts in part.items()}
        entropy, tokens = self.engine.sum(sums)
        return Scan([merged[i] for i in range(len(lessons))], entropy / tokens)

    @torch.no_grad()
    def drift(self, lessons: Sequence[Lesson], alive: Callable[[], None]) -> float:
        """Nats per token by which the model has left its base, over the whole distribution at each token."""
        sums = torch.zeros(2, dtype=torch.float64)
        for mine in self._rows(range(len(lessons)), [lesson.tokens for lesson in lessons]):
            row = pack([t for i in mine for t in lessons[i].texts], self.engine.device)
            now = self.engine.logits(row, of_base=False)
            base = self.engine.logits(row, of_base=True)
            if mine:
                sums += torch.tensor([float(divergence(now, base)), len(row.targets)])
            alive()
        total, tokens = self.engine.sum(sums)
        return total / tokens

    def _rows(self, chosen: Sequence[int], tokens: Sequence[int]) -> Iterator[list[int]]:
        """The rows of this worker, empty ones included."""
        for micro in deal(chosen, tokens, self.section.micro_batch_tokens, self.engine.world):
            yield micro[self.engine.rank]


def as_event(log: StepLog, steps: int) -> UpdateStep:
    return UpdateStep(steps=steps, **dataclasses.asdict(log))
