"""Training a bank: one step of every adapter that is not yet done, all in one forward and backward of the base."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from seal_ray.inner.adam import Adam
from seal_ray.inner.bank import Bank
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.head import loss_and_gradient
from seal_ray.inner.layout import Layout, Text, order, pack
from seal_ray.inner.linear import Adapters
from seal_ray.inner.recipe import check_examples, check_recipe, learning_rate, padded, windows
from seal_ray.inner.stack import Stack
from seal_ray.records import Example, Failure, Recipe

Progress = Callable[[int, int, int], None]  # step, steps of the longest, adapters still training
LOOK_EVERY = 16  # steps between looks at what an accelerator has computed; a look waits for it


@dataclass(frozen=True)
class Course:
    """What one adapter is taken through."""

    number: int  # as the caller counts
    recipe: Recipe
    examples: list[Example]
    steps: list[list[int]]  # the texts of each optimiser step


def fit(
    model: torch.nn.Module,
    train_sets: Sequence[Sequence[Example]],
    recipes: Sequence[Recipe | None],
    seeds: Sequence[int],
    *,
    tokens_limit: int = 16384,
    checkpointing: bool = False,
    progress: Progress | None = None,
) -> Bank:
    """Trains one adapter for each set of examples. None for a recipe trains nothing and answers as the model does.

    Raises ValueError before anything starts where a recipe does not suit the model; what is wrong with one set of
    examples, or goes wrong in one adapter, is that adapter's failure in the bank. With `checkpointing` activations are
    computed twice instead of kept.
    """
    if not len(train_sets) == len(recipes) == len(seeds):
        raise ValueError(f"{len(train_sets)} sets of examples, {len(recipes)} recipes, {len(seeds)} seeds: not a wave")
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
            _train(bank, courses, progress)
    return bank


def _train(bank: Bank, courses: list[Course], progress: Progress | None) -> None:
    frozen, stack = bank.frozen, bank.stack
    master = torch.zeros(len(courses), stack.size, device=frozen.device)
    for slot, course in enumerate(courses):
        stack.start(master[slot], bank.wanted[course.number], course.recipe.rank, bank.seeds[course.number])
    adam = Adam(master, [c.recipe for c in courses])
    grads = torch.empty_like(master)
    scales = [c.recipe.alpha / c.recipe.rank for c in courses]
    longest = max(len(c.steps) for c in courses)
    # of each step: the slots in order of position, their losses and gradient norms
    told: list[tuple[list[int], Tensor, Tensor]] = []
    looked = 0
    active = list(range(len(courses)))
    for step in range(longest):
        active = [s for s in active if len(courses[s].steps) > step]
        if not active:
            break
        texts = [[Text(t, courses[s].examples[t].ids) for t in courses[s].steps[step]] for s in active]
        slots = [active[i] for i in order(texts)]
        adapters = stack.adapters(master, slots, scales, frozen.dtype, grads)
        losses = _gradients(frozen, adapters, [(courses[s], courses[s].steps[step]) for s in slots], bank.tokens_limit)
        rates = [learning_rate(courses[s].recipe, step, len(courses[s].steps)) for s in slots]
        told.append((slots, losses, adam.step(slots, grads, rates)))
        if frozen.device.type == "cpu" or len(told) - looked == LOOK_EVERY or step == longest - 1:
            failed = _look(bank, courses, told[looked:], looked)
            looked = len(told)
            active = [s for s in active if s not in failed]
        if progress is not None:
            progress(step + 1, longest, len(slots))
    if looked < len(told):
        _look(bank, courses, told[looked:], looked)
    bank.steps = sum(map(len, bank.losses))
    bank.occupied = bank.steps / max(1, len(courses) * len(told))
    del grads, adam
    kept = [s for s, c in enumerate(courses) if bank.failures[c.number] is None]
    bank.keep(master.to(frozen.dtype), {courses[s].number: s for s in kept})


def _look(bank: Bank, courses: list[Course], told: list[tuple[list[int], Tensor, Tensor]], first: int) -> set[int]:
    """Writes down the losses of some steps and finds the adapters in which one was not finite."""
    failed: set[int] = set()
    for step, (slots, losses, norms) in enumerate(told, first):
        for slot, loss, norm in zip(slots, losses.tolist(), norms.tolist(), strict=True):
            number = courses[slot].number
            if slot in failed:
                continue
            if math.isfinite(loss) and math.isfinite(norm):
                bank.losses[number].append(loss)
                continue
            failed.add(slot)
            what = f"loss {loss}" if not math.isfinite(loss) else f"gradient norm {norm}"
            bank.failures[number] = Failure("nan_loss", f"{what} at optimiser step {step + 1}")
    return failed


def _gradients(
    frozen: Frozen, adapters: Mapping[str, Adapters], batch: list[tuple[Course, list[int]]], limit: int
) -> Tensor:
    """Writes the gradient of every position's mean loss; returns these losses."""
    counts = [sum(sum(c.examples[t].mask[1:]) for t in texts) for c, texts in batch]
    keys = [(c, position, t) for position, (c, texts) in enumerate(batch) for t in texts]
    key = iter(range(len(keys)))
    texts = [[Text(next(key), c.examples[t].ids) for t in own] for c, own in batch]
    losses = torch.zeros(len(batch), device=frozen.device)
    for layout in pack(texts, limit=limit):
        rows, targets, shares, positions = _labels(layout, keys, counts)
        at, wanted, weight, owner = (
            torch.tensor(rows, device=frozen.device),
            torch.tensor(targets, device=frozen.device),
            torch.tensor(shares, device=frozen.device),
            torch.tensor(positions, device=frozen.device),
        )
        hidden = frozen.packed(layout, adapters)
        if frozen.head_name in adapters:  # a head with adapters of its own needs every row of the blocks
            found = F.cross_entropy(frozen.head(hidden)[at].float(), wanted, reduction="none")
            (found * weight).sum().backward()
            found = found.detach()
        else:
            found, gradient = loss_and_gradient(frozen.head, hidden.detach()[at], wanted, weight)
            hidden.backward(torch.zeros_like(hidden).index_copy_(0, at, gradient))
        losses.index_add_(0, owner, found * weight)
    return losses


def _labels(
    layout: Layout, keys: list[tuple[Course, int, int]], counts: list[int]
) -> tuple[list[int], list[int], list[float], list[int]]:
    """The rows from which a labelled token is predicted, with that token, its share of the mean, and its position."""
    rows, targets, shares, positions = [], [], [], []
    for text, start in zip(layout.texts, layout.starts, strict=True):
        course, position, number = keys[text.key]
        for i, labelled in enumerate(course.examples[number].mask[1:]):
            if labelled:
                rows.append(start + i)
                targets.append(text.ids[i + 1])
                shares.append(1 / counts[position])
                positions.append(position)
    return rows, targets, shares, positions
