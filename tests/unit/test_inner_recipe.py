"""What a recipe means: the order of texts, the learning rate of each step, the first weights."""

import dataclasses
from collections import Counter

import pytest
import torch
from transformers import get_scheduler

from seal_ray.inner.recipe import check_examples, first_a, learning_rate, padded, windows
from seal_ray.records import Example, Recipe


@pytest.mark.parametrize(("count", "batch", "accumulation"), [(1, 1, 1), (7, 1, 1), (7, 2, 1), (7, 2, 3), (3, 8, 2)])
def test_every_epoch_takes_every_text_once_and_the_records_count_the_steps(count, batch, accumulation):
    recipe = Recipe(epochs=3, batch_size=batch, accumulation=accumulation)
    steps = windows(count, recipe, 5)
    assert len(steps) == recipe.steps(count)
    assert Counter(t for step in steps for b in step for t in b) == dict.fromkeys(range(count), 3)
    assert all(len(step) <= accumulation and all(len(b) <= batch for b in step) for step in steps)


def test_the_order_follows_from_the_seed_and_changes_with_the_epoch():
    recipe = Recipe(epochs=2)
    one, two = windows(12, recipe, 1), windows(12, recipe, 2)
    assert one == windows(12, recipe, 1) and one != two and one[:12] != one[12:]
    assert windows(12, dataclasses.replace(recipe, shuffle=False), 1)[:12] == [[[i]] for i in range(12)]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 4])
def test_learning_rates_are_those_of_the_stock_schedules(schedule, warmup):
    recipe = Recipe(lr=0.5, schedule=schedule, warmup=warmup)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    stock = get_scheduler(name, optimiser, num_warmup_steps=warmup, num_training_steps=20)
    for step in range(20):
        assert learning_rate(recipe, step, 20) == pytest.approx(stock.get_last_lr()[0])
        optimiser.step()
        stock.step()


def test_first_weights_depend_on_seed_and_layer_and_on_nothing_else():
    device = torch.device("cpu")
    a = first_a("layers.0.q_proj", 4, 64, 3, device)
    torch.manual_seed(99)
    assert torch.equal(a, first_a("layers.0.q_proj", 4, 64, 3, device))
    assert not torch.equal(a, first_a("layers.1.q_proj", 4, 64, 3, device))
    assert not torch.equal(a, first_a("layers.0.q_proj", 4, 64, 4, device))
    assert a.abs().max() <= 1 / 8 and a.std() == pytest.approx(1 / 8 / 3**0.5, rel=0.1)


def test_padding_is_labelled_and_no_text_is_cut():
    short, long = Example((5, 6), (False, True)), Example((7,) * 9, (True,) * 9)
    assert padded([short, long], Recipe(pad_to=4), 2) == [Example((5, 6, 2, 2), (False, True, True, True)), long]


def test_what_can_not_be_trained_on_is_named():
    def kind(*examples: Example, **changes: int) -> str:
        failure = check_examples(examples, dataclasses.replace(Recipe(), **changes), context=64, vocabulary=10)
        return failure.kind if failure else ""

    good = Example((1, 2, 3), (False, False, True))
    assert kind(good) == ""
    assert kind() == "no_text"
    assert kind(good, Example((1, 2), (True, False))) == "no_text", "a first token is no label"
    assert kind(Example((1,) * 65, (True,) * 65)) == "too_long"
    assert kind(Example((1,) * 9, (True,) * 9), max_length=8) == "too_long"
    assert kind(good, pad_to=65) == "too_long"
    assert kind(Example((1, 10), (True, True))) == "bad_token"
