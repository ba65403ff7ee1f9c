"""A tiny policy for tests: lessons with tokens of their own, and the engine of one process."""

from collections.abc import Sequence
from typing import Any

from seal_ray import models
from seal_ray.config import ModelSection, PolicySection, SelectSection
from seal_ray.policy.lessons import Lesson, lessons
from seal_ray.policy.select import choose
from seal_ray.policy.single_engine import SingleEngine
from seal_ray.records import Edit, Estimate, Reward

SECTION = PolicySection(
    rank=8, alpha=16, lr=5e-3, epochs=6, global_batch=4, micro_batch_tokens=64, dtype="float32", checkpointing=False
)


def base_folder() -> str:
    return models.fetch(ModelSection(name="builtin:tiny"))


def engine(section: PolicySection = SECTION) -> SingleEngine:
    return SingleEngine(base_folder(), None, section, 1, "cpu")


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
