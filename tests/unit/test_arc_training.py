"""Training sets: small puzzles from a task's demonstrations, within limits, the same for the same seed."""

import json
from itertools import islice

import numpy as np
import pytest
from arc_data import domain, grids
from hypothesis import given, settings
from hypothesis import strategies as st

from seal_ray.domains.arc.augment import FAMILIES, Family
from seal_ray.domains.arc.grids import Pair, same
from seal_ray.domains.arc.training import leave_outs, training_puzzles
from seal_ray.domains.base import Rejected
from seal_ray.models import tokenizer
from seal_ray.models.builtin import make_tiny
from seal_ray.records import Recipe

GRIDS = [[[i, i + 1], [i + 2, i]] for i in range(6)]
TASK = {
    "train": [{"input": GRIDS[i], "output": GRIDS[i + 1]} for i in (0, 2, 4)],
    "test": [{"input": GRIDS[1], "output": [[9, 8], [7, 9]]}],
}
CHOSEN = {
    "basic": False,
    "size": False,
    "chain": False,
    "repeat": False,
    "loss": "output",
    "learning_rate": 2e-4,
    "epochs": 3,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny(folder)
    return tokenizer(folder)


def arc(**section):
    recipe = section.pop("recipe", Recipe(epochs=2, batch_size=2, max_length=8192))
    chat = section.pop("chat", False)
    made = domain({"challenges.json": json.dumps({"t": TASK}).encode()}, recipe=recipe, chat=chat, **section)
    return made, made.tasks("train")[0]


def pairs(count):
    return tuple(Pair(np.full((1, 2), i, np.int8), np.full((2, 1), i, np.int8)) for i in range(count))


@pytest.mark.parametrize(("demonstrations", "one", "two"), [(1, 1, 0), (2, 2, 0), (3, 3, 6), (4, 4, 12), (5, 5, 20)])
def test_every_demonstration_is_asked_with_the_others_shown_and_with_one_of_them_missing(demonstrations, one, two):
    made = leave_outs(pairs(demonstrations))
    shown = [len(p.demonstrations) for p in made]
    assert shown == [demonstrations - 1] * one + [demonstrations - 2] * two
    for puzzle in made:
        asked = int(puzzle.input[0, 0])
        assert puzzle.output is not None and int(puzzle.output[0, 0]) == asked
        assert asked not in [int(p.input[0, 0]) for p in puzzle.demonstrations]
    assert len({p.key() for p in made}) == len(made)


@given(
    st.lists(st.tuples(grids(4), grids(4)), min_size=1, max_size=4),
    st.sets(st.sampled_from(FAMILIES)),
    st.integers(0, 2**31 - 1),
    st.integers(4, 8),
)
@settings(max_examples=40, deadline=None)
def test_a_training_set_has_no_repeats_and_no_grid_over_the_limit(demonstrations, families, seed, side):
    given_pairs = tuple(Pair(a, b) for a, b in demonstrations)
    chosen: tuple[Family, ...] = tuple(f for f in FAMILIES if f in families)
    made = list(training_puzzles(given_pairs, chosen, seed=seed, max_side=side))
    keys = [p.key() for p in made]
    assert len(set(keys)) == len(keys)
    assert all(p.side() <= side and p.output is not None for p in made)
    plain = list(dict.fromkeys(p.key() for p in leave_outs(given_pairs)))
    assert keys[: len(plain)] == plain
    again = training_puzzles(given_pairs, chosen, seed=seed, max_side=side)
    assert [p.key() for p in again] == keys
    taken = islice(training_puzzles(given_pairs, chosen, seed=seed, max_side=side), 5)
    assert [p.key() for p in taken] == keys[:5]


def test_a_task_stays_consistent_between_its_examples():
    """Where the rule is that the output is the input, it still is, whatever was done to the puzzle."""
    rng = np.random.default_rng(3)
    same_pairs = tuple(Pair(g, g) for g in (rng.integers(0, 10, (3, 2)).astype(np.int8) for _ in range(3)))
    made = list(training_puzzles(same_pairs, FAMILIES, seed=1, max_side=30))
    assert len(made) > 200
    for p in made:
        assert p.output is not None and same(p.input, p.output)
        assert all(same(d.input, d.output) for d in p.demonstrations)


def test_grids_that_are_already_over_the_limit_are_kept_as_they_are():
    made = list(training_puzzles(pairs(2), ("size",), seed=0, max_side=1))
    assert {p.side() for p in made} == {2}


def test_the_directives_decide_the_rate_the_epochs_and_nothing_else_of_the_recipe(tiny):
    base = Recipe(rank=7, epochs=2, batch_size=2, max_length=900, schedule="cosine", warmup=11)
    made, task = arc(recipe=base)
    _, recipe = made.training(task, CHOSEN, tiny)
    assert recipe == Recipe(rank=7, epochs=3, lr=2e-4, batch_size=2, max_length=900, schedule="cosine", warmup=11)


@pytest.mark.parametrize("chat", [False, True])
def test_the_loss_is_on_the_output_and_its_end_or_on_all_tokens(tiny, chat):
    made, task = arc(chat=chat)
    outputs, _ = made.training(task, CHOSEN, tiny)
    all_tokens, _ = made.training(task, {**CHOSEN, "loss": "all"}, tiny)
    assert [e.ids for e in outputs] == [e.ids for e in all_tokens]
    assert all(all(e.mask) for e in all_tokens)
    for example in outputs:
        learned = [i for i, m in zip(example.ids, example.mask, strict=True) if m]
        assert example.ids[-len(learned) :] == tuple(learned)
        assert learned[-1] == tiny.eos_token_id and learned.count(tiny.eos_token_id) == 1
        rows = tiny.decode(learned[:-1]).split("\n")
        assert [len(r) for r in rows] == [2, 2] and "".join(rows).isdigit()
    text = tiny.decode(outputs[0].ids)
    assert ("assistant" in text) == chat
    assert text.count("Output:") == 3 and text.endswith("12\n31<end>")


def test_the_prompt_of_an_example_is_put_as_the_questions_put_it(tiny):
    made, task = arc()
    (example, *_), _ = made.training(task, CHOSEN, tiny)
    assert tiny.decode(example.ids[: example.mask.index(True)], skip_special_tokens=True).endswith("\nOutput:\n")
    assert made.questions(task)[0].prompt.text.endswith("\nOutput:\n")


def test_the_output_of_the_test_is_never_trained_on(tiny):
    made, task = arc(max_examples=1000, max_steps=10_000)
    for families in ({}, dict.fromkeys(FAMILIES, True)):
        examples, _ = made.training(task, {**CHOSEN, **families}, tiny)
        assert not any("98\n79" in tiny.decode(e.ids) for e in examples)


def test_more_families_make_more_examples_up_to_the_limit(tiny):
    made, task = arc(max_steps=10_000)
    counts = [len(made.training(task, {**CHOSEN, **dict.fromkeys(FAMILIES[:n], True)}, tiny)[0]) for n in range(5)]
    assert counts[0] == 18 and counts[0] < counts[1] < counts[2] < counts[3] == counts[4] == 250


def test_examples_over_the_recipes_length_are_left_out(tiny):
    everything = {**CHOSEN, **dict.fromkeys(FAMILIES, True)}
    made, task = arc(recipe=Recipe(epochs=1, batch_size=2, max_length=80), max_steps=10_000)
    lengths = [len(e.ids) for e in made.training(task, everything, tiny)[0]]
    assert lengths and max(lengths) <= 80
    made, task = arc(max_steps=10_000)
    assert max(len(e.ids) for e in made.training(task, everything, tiny)[0]) > 80


def test_a_task_that_is_too_long_for_the_model_is_refused(tiny):
    made, task = arc(recipe=Recipe(epochs=1, max_length=20))
    with pytest.raises(Rejected) as error:
        made.training(task, CHOSEN, tiny)
    assert error.value.failure.kind == "too_long" and "inner.max_length is 20" in error.value.failure.message


def test_an_edit_that_needs_too_many_steps_is_over_budget(tiny):
    made, task = arc(max_steps=27)
    examples, recipe = made.training(task, CHOSEN, tiny)
    assert recipe.steps(len(examples)) == 27
    made, task = arc(max_steps=26)
    with pytest.raises(Rejected) as error:
        made.training(task, CHOSEN, tiny)
    assert error.value.failure.kind == "over_budget"
    assert "27 steps for 18 examples are over domain.max_steps: 26" in error.value.failure.message


def test_without_an_edit_fixed_directives_are_trained_within_the_steps_allowed(tiny):
    made, task = arc(max_steps=100)
    examples, recipe = made.training(task, None, tiny)
    assert recipe == Recipe(epochs=2, batch_size=2, max_length=8192)
    assert recipe.steps(len(examples)) == 100 and len(examples) == 100
    assert not any(example.mask[0] for example in examples)


def test_the_same_task_gives_the_same_examples_and_another_seed_others(tiny):
    made, task = arc()
    again, _ = arc()
    assert made.training(task, CHOSEN, tiny) == again.training(task, CHOSEN, tiny)
    faster = made.training(task, {**CHOSEN, "learning_rate": 1e-3}, tiny)[0]
    assert faster == made.training(task, CHOSEN, tiny)[0]
