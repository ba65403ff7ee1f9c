"""A tiny policy for tests: lessons with tokens of their own, and a plain engine without DeepSpeed."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from seal_ray import models
from seal_ray.config import ModelSection, PolicySection, SelectSection
from seal_ray.policy import learner
from seal_ray.policy.lessons import Lesson, lessons
from seal_ray.policy.select import choose
from seal_ray.records import Edit, Estimate, Reward

SECTION = PolicySection(
    rank=8, alpha=16, lr=5e-3, epochs=6, global_batch=4, micro_batch_tokens=64, dtype="float32", checkpointing=False
)


def base_folder() -> str:
    return models.fetch(ModelSection(name="builtin:tiny"))


class PlainEngine:
    """One process, torch's own AdamW: what the loop needs of an engine, and nothing to shard."""

    rank, world, device = 0, 1, torch.device("cpu")

    def __init__(self, section: PolicySection, seed: int = 1) -> None:
        self.section = section
        self.learner = learner.Learner(learner.build(base_folder(), None, section, seed, "float32", "cpu"))
        self.optimizer = torch.optim.AdamW([p for _, p in learner.trainable(self.learner)], weight_decay=0)

    def forward(self, row: learner.PackedRow) -> tuple[Tensor, Tensor]:
        return self.learner(row.ids, row.positions, row.keep, row.targets)

    def logits(self, row: learner.PackedRow, *, of_base: bool) -> Tensor:
        raise NotImplementedError

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, lr: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        weights = [p for _, p in learner.trainable(self.learner)]
        norm = torch.nn.utils.clip_grad_norm_(weights, self.section.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(norm)


@contextmanager
def alone() -> Iterator[None]:
    """A process group of one."""
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            yield
        finally:
            dist.destroy_process_group()


def edits() -> dict[str, Edit]:
    """Two tasks with two edits each. Good and bad ones share no token, so what helps one can't help the other."""
    good, bad = range(40, 80), range(200, 240)
    found = {}
    for task in range(2):
        for name, tokens in (("good", good), ("bad", bad)):
            ids = tuple(tokens[(7 * i + 13 * task) % len(tokens)] for i in range(12))
            found[f"{name}{task}"] = Edit(
                f"{name}{task}", f"t{task}", 0, "v0", 1, (5, 6 + task, 7), ids, (-6.0,) * len(ids), "", "stop"
            )
    return found


def lessons_of(algorithm: Any, sign: float = 1.0) -> list[Lesson]:
    """What an algorithm makes of rewards that like the good edits (with sign -1: the bad ones)."""
    rewards = []
    for name, edit in edits().items():
        value = Estimate(sign * (0.4 if name.startswith("good") else -0.2), 0.01, 3)
        rewards.append(Reward(edit.id, edit.task, 0, value, value))
    return lessons(choose(rewards, SelectSection(algorithm=algorithm)), edits())


def everything() -> list[Lesson]:
    """A lesson for each edit, to take its likelihood."""
    from seal_ray.policy.lessons import LessonText

    return [Lesson(e.id, e.task, LessonText(e.prompt_ids, e.ids)) for e in edits().values()]


def rise(before: Sequence[float], after: Sequence[float], kind: str) -> list[float]:
    """By how much the likelihood of the edits of a kind rose, nats per token."""
    return [a - b for lesson, b, a in zip(everything(), before, after, strict=True) if lesson.edit.startswith(kind)]
