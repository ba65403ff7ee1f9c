"""`fit`: candidates' texts and recipes become a bank of trained adapters."""

from collections.abc import Callable, Sequence

import torch

from seal_ray.inner.bank import Bank
from seal_ray.inner.capacity import fitting_slots
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.memory import TOKENS_LIMIT
from seal_ray.inner.recipe import check_examples, check_recipe, padded, windows
from seal_ray.inner.stack import Stack
from seal_ray.inner.training import Course, SlotTraining
from seal_ray.records import Example, Failure, Recipe
from seal_ray.shapes import shape_of

BLIND_SLOTS = 16  # where the model's sizes can't be told: running out of memory halves them


def fit(
    model: torch.nn.Module,
    train_sets: Sequence[Sequence[Example]],
    recipes: Sequence[Recipe | None],
    seeds: Sequence[int],
    *,
    slots: int = 0,
    tokens_limit: int = TOKENS_LIMIT,
    checkpointing: bool = False,
    dropped: Callable[[int], bool] | None = None,
) -> Bank:
    """Trains one adapter for each set of examples. None for a recipe trains nothing and answers as the model does.

    At most `slots` adapters are in training at once, 0: as many as fit into free memory; when one ends the next takes
    its slot. `dropped` is asked before every step whether an adapter's training should end there. With `checkpointing`
    activations are computed twice instead of kept.

    Raises ValueError before anything starts where a recipe does not suit the model; what is wrong with one set of
    examples, or goes wrong in one adapter, is that adapter's failure in the bank.
    """
    if not len(train_sets) == len(recipes) == len(seeds):
        raise ValueError(
            f"{len(train_sets)} sets of examples, {len(recipes)} recipes, {len(seeds)} seeds; give one of each"
        )
    frozen = Frozen(model, checkpointing=checkpointing)
    wanted: dict[int, list[str]] = {}
    for i, recipe in enumerate(recipes):
        if recipe is not None:
            wanted[i] = check_recipe(recipe, frozen.layers, frozen.head_name)
    failures: list[Failure | None] = [None] * len(recipes)
    courses: list[Course] = []
    for i, (examples, recipe) in enumerate(zip(train_sets, recipes, strict=True)):
        if recipe is None:
            continue
        failures[i] = check_examples(examples, recipe, context=frozen.context, vocabulary=frozen.vocabulary)
        if failures[i] is None:
            texts = [[t for batch in step for t in batch] for step in windows(len(examples), recipe, seeds[i])]
            courses.append(Course(i, recipe, padded(examples, recipe, frozen.pad_id), texts))
    names = {n for c in courses for n in wanted[c.number]}
    targets = [n for n in frozen.layers if n in names]
    stack = Stack.of(frozen.layers, targets, max((c.recipe.rank for c in courses), default=1))
    bank = Bank(frozen, stack, failures, list(seeds), recipes, wanted, tokens_limit)
    if courses:
        with frozen.attached(targets):
            SlotTraining(bank, courses, slots or _fitting(frozen, courses, tokens_limit), dropped).run()
    return bank


def _fitting(frozen: Frozen, courses: Sequence[Course], tokens_limit: int) -> int:
    try:
        shape = shape_of(frozen.base.config.get_text_config().to_dict())
    except ValueError:
        return BLIND_SLOTS
    return fitting_slots(
        frozen.device,
        shape,
        [c.examples for c in courses],
        [c.recipe for c in courses],
        dtype_bytes=frozen.dtype.itemsize,
        tokens_limit=tokens_limit,
    )
