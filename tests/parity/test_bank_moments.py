"""Moments in 16 and 8 bits: how far from float32 they lead, and that they depend on an adapter's own steps alone."""

import dataclasses
from typing import Any

import pytest
import torch
from bank_models import texts, tiny

from seal_ray.inner import fit
from seal_ray.inner.adam import Adam
from seal_ray.inner.moments import Moments
from seal_ray.inner.stack import Stack
from seal_ray.records import Recipe

PLAIN = Recipe(rank=8, alpha=16, epochs=12, lr=3e-3)
# weights after 300 steps, as a share of how far they have gone in float32; losses of a bank's steps
CLOSE = {"bfloat16": (0.02, 2e-3), "int8": (0.15, 2e-2)}
LAYERS = {"up": (96, 70), "down": (70, 96)}


def in_memory(kind: str) -> Recipe:
    return dataclasses.replace(PLAIN, moments=kind)  # type: ignore[arg-type]


def stack_of(rank: int) -> Stack:
    layers = {n: torch.nn.Linear(*widths, device="meta") for n, widths in LAYERS.items()}
    return Stack.of(layers, list(LAYERS), rank)


def adam(kind: str, rank: int = 8, slots: int = 1, recipe: Recipe = PLAIN) -> Adam:
    stack = stack_of(rank)
    made = Adam(torch.zeros(slots, stack.size), stack, moments=kind)
    for slot in range(slots):
        made.begin(slot, recipe)
    return made


def gradients(steps: int, size: int) -> Any:
    """Of very different size from weight to weight, falling, around a mean that turns."""
    generator = torch.Generator().manual_seed(3)
    scale = torch.randn(size, generator=generator).exp()
    mean = torch.randn(size, generator=generator) / 3
    for step in range(steps):
        turn = float(torch.tensor(step / 40).cos())
        yield (scale * (mean * turn + torch.randn(size, generator=generator)) * (1 - 0.8 * step / steps))[None]


@pytest.mark.parametrize("kind", CLOSE)
def test_three_hundred_steps_lead_to_nearly_the_weights_of_float32(kind):
    free = dataclasses.replace(PLAIN, clip=0.0)
    ours, plain = adam(kind, recipe=free), adam("float32", recipe=free)
    for grads in gradients(300, stack_of(8).size):
        for one in (ours, plain):
            one.step([0], [0], grads, [1e-3])
    apart = (ours.master - plain.master).norm() / plain.master.norm()
    assert 0 < apart < CLOSE[kind][0]


@pytest.mark.parametrize("kind", CLOSE)
def test_what_is_small_beside_a_moment_is_not_lost_for_good(kind):
    """A thousandth a step: less than half of the last digit, of 8 or of 5."""
    one, size = adam(kind), stack_of(8).size
    first = torch.randn(1, size, generator=torch.Generator().manual_seed(1)).sign()
    one.step([0], [0], first, [1e-3])
    one.step([0], [0], first / 1e6, [1e-3])
    before = second(one.moments)
    for _ in range(1000):
        one.step([0], [0], first / 1e6, [1e-3])
    assert second(one.moments) == pytest.approx(before * 0.999**1000, rel=0.05)


def second(moments: Moments) -> float:
    if moments.scales is None:
        return float(moments.second.float().mean())
    assert moments.second.unique().numel() == 1
    return float(moments.scales[0, 1].mean())


@pytest.mark.parametrize("kind", CLOSE)
def test_a_step_is_the_same_to_the_bit_in_any_slot_and_whatever_rank_the_neighbours_have(kind):
    recipe = dataclasses.replace(PLAIN, rank=8, clip=0.0, weight_decay=0.1)
    small, large = stack_of(8), stack_of(24)
    alone, among = adam(kind, 8, recipe=recipe), adam(kind, 24, slots=3, recipe=recipe)
    for step, grads in enumerate(gradients(20, small.size)):
        wide = torch.randn(2, large.size, generator=torch.Generator().manual_seed(step)) * 50
        own = torch.zeros(1, large.size)
        for name in LAYERS:
            large.a(own, name)[:, :8] = small.a(grads, name)
            large.b(own, name)[:, :, :8] = small.b(grads, name)
        alone.step([0], [0], grads, [1e-3])
        among.step([2, 0], [1, 2], torch.cat([wide, own])[[0, 2, 1]], [1e-3, 1e-2])
    for name in LAYERS:
        assert torch.equal(small.a(alone.master, name)[0], large.a(among.master, name)[2, :8])
        assert torch.equal(small.b(alone.master, name)[0], large.b(among.master, name)[2, :, :8])
        assert not large.a(among.master, name)[2, 8:].any() and not large.b(among.master, name)[2, :, 8:].any()
    assert among.master[0].any() and not among.master[1].any()


@pytest.mark.parametrize("kind", CLOSE)
def test_a_gradient_that_is_not_finite_moves_neither_weights_nor_moments(kind):
    one = adam(kind)
    size = stack_of(8).size
    one.step([0], [0], torch.ones(1, size), [1e-3])
    kept = [rows.clone() for rows in (one.master, one.moments.first, one.moments.second)]
    norms = one.step([0], [0], torch.full((1, size), float("nan")), [1e-3])
    assert norms.isnan().all()
    assert all(map(torch.equal, kept, (one.master, one.moments.first, one.moments.second)))


def test_a_bank_comes_close_to_float32_and_to_the_same_again():
    model = tiny("llama")
    sets, seeds = [texts(i, [9 + 5 * i, 14, 7]) for i in range(3)], [1, 2, 3]
    plain = fit(model, sets, [PLAIN] * 3, seeds)
    for kind, (_, close) in CLOSE.items():
        bank, again = (fit(model, sets, [in_memory(kind)] * 3, seeds, slots=2) for _ in range(2))
        assert bank.losses == again.losses
        for own, wide in zip(bank.losses, plain.losses, strict=True):
            assert own != wide, "they are kept in fewer bits"
            assert own == pytest.approx(wide, rel=close, abs=close)
        assert all(own[-1] < 0.75 * own[0] for own in bank.losses)


def test_candidates_with_moments_of_every_kind_come_to_what_they_come_to_alone():
    model = tiny("llama")
    kinds = ["int8", "float32", "bfloat16", "int8", "float32"]
    recipes = [dataclasses.replace(in_memory(kind), epochs=4, rank=4 + i) for i, kind in enumerate(kinds)]
    recipes[3] = dataclasses.replace(recipes[3], lr=1e30, clip=0.0)
    sets, seeds = [texts(i, [9 + 5 * i, 14]) for i in range(5)], [1, 2, 3, 4, 5]
    bank = fit(model, sets, recipes, seeds, slots=2)
    assert [i for i, failure in enumerate(bank.failures) if failure] == [3]
    assert bank.steps == sum(map(len, bank.losses)) and 0 < bank.occupied <= 1
    for i in (0, 1, 2, 4):
        alone = fit(model, [sets[i]], [recipes[i]], [seeds[i]])
        assert bank.losses[i] == pytest.approx(alone.losses[0], abs=1e-3)
        assert (bank.weights[i] != 0).sum() == (alone.weights[0] != 0).sum()
