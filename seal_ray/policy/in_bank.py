"""A policy update as a bank takes it: the same lessons in the same steps at the same rates, from the same weights.

An adapter is small, and starting Ray Train for a few steps costs more than the steps. Whoever trains it, it comes to
the same: a test holds both to that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seal_ray.config import PolicySection
from seal_ray.policy.lessons import Lesson
from seal_ray.policy.packing import batches
from seal_ray.policy.schedule import learning_rate
from seal_ray.records import Example, Keeping, Recipe, StudyCourse, derive_seed


@dataclass(frozen=True)
class BankUpdate:
    """What `inner.fit` is asked for in place of an update."""

    examples: tuple[Example, ...]
    recipe: Recipe
    course: StudyCourse
    seed: int


def in_bank(
    lessons: Sequence[Lesson],
    section: PolicySection,
    seed: int,
    *,
    keeping: Keeping | None = None,
    start: Mapping[str, bytes] | None = None,
    held: int = 0,
) -> BankUpdate:
    """The update with this seed. `start`: the files of the adapter to train on; none is a new one.

    Of the lessons the last `held` are not learned: at them the model is held to what it expected before this step.
    """
    order = batches(len(lessons), section.epochs, section.global_batch, seed)
    recipe = Recipe(
        rank=section.rank,
        alpha=section.alpha,
        targets=section.targets,
        epochs=section.epochs,
        batch_size=section.global_batch,
        lr=section.lr,
        schedule=section.schedule,
        warmup=math.ceil(section.warmup * len(order)),
        clip=section.clip,
        weight_decay=section.weight_decay,
        max_length=section.max_length,
    )
    rates = tuple(learning_rate(number, len(order), section) for number in range(len(order)))
    course = StudyCourse(tuple(map(tuple, order)), rates, keeping or Keeping(), dict(start or {}))
    examples = [_example(lesson, number >= len(lessons) - held) for number, lesson in enumerate(lessons)]
    return BankUpdate(tuple(examples), recipe, course, derive_seed(seed, "adapter"))


def _example(lesson: Lesson, held: bool) -> Example:
    prompt, ids = lesson.text.prompt_ids, lesson.text.ids
    return Example((*prompt, *ids), (False,) * len(prompt) + (True,) * len(ids), prompt if held else ())
