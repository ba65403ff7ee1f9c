"""`fit`: candidates' texts and recipes become a bank of trained adapters."""

from collections.abc import Callable, Mapping, Sequence

import torch

from seal_ray.inner.bank import Bank
from seal_ray.inner.capacity import fitting_slots
from seal_ray.inner.continued import files_of
from seal_ray.inner.distill import TopTokens
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.keep import Keeper, KeepFailed, going_on_with, own_matrices
from seal_ray.inner.layer_statistics import observe
from seal_ray.inner.memory import TOKENS_LIMIT
from seal_ray.inner.recipe import check_examples, check_recipe, padded, windows, writes
from seal_ray.inner.stack import Stack
from seal_ray.inner.staging import staged
from seal_ray.inner.teacher import Reading, expectations, uncovered
from seal_ray.inner.training import Course, SlotTraining, gradient_type
from seal_ray.inner.training_text import TrainingText
from seal_ray.records import Example, Failure, Recipe, StudyCourse
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
    continued: Sequence[StudyCourse | None] = (),
) -> Bank:
    """Trains one adapter for each set of examples. None for a recipe trains nothing and answers as the model does.

    At most `slots` adapters are in training at once, 0: as many as fit into free memory; when one ends the next takes
    its slot. `dropped` is asked before every step whether an adapter's training should end there. With `checkpointing`
    activations are computed twice instead of kept. `continued` says of an adapter what it is trained on from, and in
    which steps; what becomes of it is in the bank's `files`.

    Raises ValueError before anything starts where a recipe does not suit the model; what is wrong with one set of
    examples, or goes wrong in one adapter, is that adapter's failure in the bank.
    """
    if not len(train_sets) == len(recipes) == len(seeds):
        raise ValueError(
            f"{len(train_sets)} sets of examples, {len(recipes)} recipes, {len(seeds)} seeds; give one of each"
        )
    frozen = Frozen(model, checkpointing=checkpointing)
    wanted: dict[int, list[str]] = {}
    recipes = list(recipes)
    going_on: dict[int, tuple[StudyCourse, Keeper]] = {}
    for i, study in enumerate(continued):
        if study is not None:
            recipes[i], wanted[i], keeper = going_on_with(study, recipes[i], frozen)
            going_on[i] = study, keeper
    for i, recipe in enumerate(recipes):
        if recipe is not None and i not in going_on:
            wanted[i] = check_recipe(recipe, frozen.layers, frozen.head_name)
    failures: list[Failure | None] = [None] * len(recipes)
    sets: dict[int, tuple[Recipe, list[Example]]] = {}
    for i, (examples, recipe) in enumerate(zip(train_sets, recipes, strict=True)):
        if recipe is None:
            continue
        failures[i] = check_examples(examples, recipe, context=frozen.context, vocabulary=frozen.vocabulary)
        if failures[i] is None:
            sets[i] = recipe, padded(examples, recipe, frozen.pad_id)
    names = {n for i in sets for n in wanted[i]}
    targets = [n for n in frozen.layers if n in names]
    stack = Stack.of(frozen.layers, targets, max((recipe.rank for recipe, _ in sets.values()), default=1))
    bank = Bank(frozen, stack, failures, list(seeds), recipes, wanted, tokens_limit)
    if sets:
        with frozen.attached(targets):
            courses = _courses(bank, sets, going_on)
            for kind in sorted({course.recipe.moments for course in courses}):
                own = [course for course in courses if course.recipe.moments == kind]
                fitting = slots or _fitting(bank, {c.number: sets[c.number] for c in own}, gradient_type(bank, own))
                SlotTraining(bank, own, fitting, dropped).run()
            for course in courses:
                if course.keeper and course.number in bank.weights:
                    _remember(bank, course, course.keeper)
    return bank


def _courses(
    bank: Bank,
    sets: Mapping[int, tuple[Recipe, list[Example]]],
    going_on: Mapping[int, tuple[StudyCourse, Keeper]],
) -> list[Course]:
    """What each adapter is taken through. What is to be taught at given answers is asked of the teacher here, once."""
    readings = [
        (i, t, Reading.of(example, recipe.distill_temperature))
        for i, (recipe, examples) in sets.items()
        for t, example in enumerate(examples)
        if example.teacher and i not in going_on and not writes(recipe, example)
    ]
    expected = expectations(bank.frozen, [reading for *_, reading in readings], bank.tokens_limit)
    teachers = {(i, t): teacher for (i, t, _), teacher in zip(readings, expected, strict=True)}
    for i, _, reading in readings:
        bank.taught[i] += len(reading.ids)
    courses = []
    for i, (study, keeper) in going_on.items():
        if i in sets:
            courses.append(_going_on(bank, i, *sets[i], study, keeper))
    for i, (recipe, examples) in sets.items():
        if i in going_on:
            continue
        own = [teachers.get((i, t)) for t in range(len(examples))]
        bank.failures[i] = uncovered(examples, own)
        if bank.failures[i] is None:
            texts = [TrainingText.of(example, teacher) for example, teacher in zip(examples, own, strict=True)]
            steps = [[t for batch in step for t in batch] for step in windows(len(texts), recipe, bank.seeds[i])]
            asked = {t: example for t, example in enumerate(examples) if writes(recipe, example)}
            courses.append(Course(i, recipe, texts, steps, asked))
    return courses


def _going_on(
    bank: Bank, number: int, recipe: Recipe, examples: list[Example], study: StudyCourse, keeper: Keeper
) -> Course:
    """What an adapter that is trained on is taken through. Its teacher is what it was itself before this step."""
    asked = {t: Reading.of(e, recipe.distill_temperature) for t, e in enumerate(examples) if e.teacher}
    teachers: dict[int, TopTokens] = {}
    if asked:
        row = torch.zeros(bank.stack.size, device=bank.frozen.device)
        keeper.begin(own_matrices(bank.stack, row, bank.wanted[number], recipe.rank))
        (scale,) = staged(bank.frozen.device, [], [[bank.scale(number)]])
        before = bank.stack.finished([row.to(bank.frozen.dtype)], scale)
        teachers = dict(
            zip(asked, expectations(bank.frozen, [*asked.values()], bank.tokens_limit, before), strict=True)
        )
        bank.taught[number] += sum(len(reading.ids) for reading in asked.values())
    texts = [TrainingText.of(example, teachers.get(t)) for t, example in enumerate(examples)]
    return Course(number, recipe, texts, [*map(list, study.order)], {}, study.rates, keeper)


def _remember(bank: Bank, course: Course, keeper: Keeper) -> None:
    """What the adapter's method needs at the next step, and the files that the adapter becomes."""
    frozen, stack, number = bank.frozen, bank.stack, course.number
    row = bank.masters.pop(number).to(frozen.device)
    own = own_matrices(stack, row, bank.wanted[number], course.recipe.rank)
    (scale,) = staged(frozen.device, [], [[bank.scale(number)]])
    adapters = stack.trained(row[None], [0], scale, frozen.dtype, torch.empty_like(row[None]))
    layers = bank.wanted[number]
    try:
        keeper.remember(own, lambda gradients: observe(frozen, adapters, layers, course.texts, gradients))
    except KeepFailed as error:
        bank.failures[number] = Failure("keep", str(error))
        bank.weights.pop(number)
        return
    pairs = {name: (own.a[name], own.b[name]) for name in layers}
    targets = frozen.target_modules(layers)
    bank.files[number] = files_of(pairs, course.recipe.rank, bank.scale(number), targets, keeper.memory)


def _fitting(bank: Bank, sets: Mapping[int, tuple[Recipe, list[Example]]], gradient_type: torch.dtype) -> int:
    frozen = bank.frozen
    try:
        shape = shape_of(frozen.base.config.get_text_config().to_dict())
    except ValueError:
        return BLIND_SLOTS
    return fitting_slots(
        frozen.device,
        shape,
        [examples for _, examples in sets.values()],
        [recipe for recipe, _ in sets.values()],
        dtype_bytes=frozen.dtype.itemsize,
        gradient_bytes=gradient_type.itemsize,
        tokens_limit=bank.tokens_limit,
    )
