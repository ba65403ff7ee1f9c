"""Slots that refill: whoever trains in them comes to what it comes to alone, whoever was there before or is beside."""

import dataclasses
from typing import Any

import pytest
import torch
from bank_models import texts, tiny
from test_bank_against_peft import agree, varied

from seal_ray.inner import fit
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.training import SlotTraining
from seal_ray.records import Recipe

PLAIN = Recipe(rank=4, alpha=8, epochs=3, lr=3e-3)


@pytest.fixture
def steps(monkeypatch: Any) -> list[list[int]]:
    """Who was trained in each step of the bank."""
    seen: list[list[int]] = []
    own = SlotTraining._step

    def step(self: SlotTraining) -> None:
        seen.append(sorted(r.course.number for r in self.running.values()))
        own(self)

    monkeypatch.setattr(SlotTraining, "_step", step)
    return seen


def same_losses(a: Any, b: Any, skip: tuple[int, ...] = ()) -> None:
    for i, (one, other) in enumerate(zip(a.losses, b.losses, strict=True)):
        if i not in skip:
            assert one == pytest.approx(other, abs=1e-5), f"adapter {i}"


def test_refilled_slots_equal_their_oracles(steps):
    model = tiny("llama")
    sets, recipes, seeds = varied(10)
    bank = fit(model, sets, recipes, seeds, slots=3)
    assert max(map(len, steps)) == 3 and {n for step in steps for n in step} == set(range(10))
    agree(model, sets, recipes, seeds, bank)


def test_slots_are_kept_busy(steps):
    model = tiny("llama")
    sets = [texts(i, [6] * (3 + i % 5)) for i in range(30)]
    bank = fit(model, sets, [PLAIN] * 30, list(range(30)), slots=4)
    assert bank.steps == sum(map(len, steps)) == sum(3 * len(own) for own in sets)
    assert bank.occupied == pytest.approx(bank.steps / (4 * len(steps))) and bank.occupied > 0.95


def test_a_dropped_adapter_makes_room_and_its_neighbours_do_not_notice(steps):
    model = tiny("llama")
    sets, recipes, seeds = varied(8)
    calm = fit(model, sets, recipes, seeds)
    before = len(steps)

    def dropped(number: int) -> bool:
        return number == 5 or (number == 7 and sum(7 in step for step in steps[before:]) == 2)

    bank = fit(model, sets, recipes, seeds, slots=2, dropped=dropped)
    same_losses(calm, bank, skip=(5, 7))
    assert bank.losses[5] == [] and bank.losses[7] == pytest.approx(calm.losses[7][:2], abs=1e-5)
    for number, message in ((5, "dropped after 0 of"), (7, "dropped after 2 of")):
        failure = bank.failures[number]
        assert failure is not None and failure.kind == "dropped" and message in failure.message
        with pytest.raises(ValueError, match="was not trained"):
            bank.export(number, "unused")
    assert [i for i, f in enumerate(bank.failures) if f] == [5, 7]


def test_whoever_takes_the_slot_of_an_adapter_that_broke_is_unharmed():
    model = tiny("llama")
    sets, recipes, seeds = varied(8)
    calm = fit(model, sets, recipes, seeds)
    wild = list(recipes)
    wild[2] = dataclasses.replace(recipes[2], targets=("all-linear",), lr=1e30, warmup=0, clip=0.0, epochs=9)
    bank = fit(model, sets, wild, seeds, slots=1)
    assert [i for i, f in enumerate(bank.failures) if f] == [2]
    same_losses(calm, bank, skip=(2,))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")]
)
def test_memory_that_runs_out_in_a_step_makes_forwards_smaller_and_loses_nothing(monkeypatch, error):
    model = tiny("llama")
    sets, recipes, seeds = varied(8)
    calm = fit(model, sets, recipes, seeds)
    rows, own = [], Frozen.hidden

    def hidden(self: Frozen, ids: Any, *args: Any, **kwargs: Any) -> Any:
        rows.append(len(ids))
        out = own(self, ids, *args, **kwargs)
        if len(ids) > 60 and not self.checkpointing:
            raise error
        return out

    monkeypatch.setattr(Frozen, "hidden", hidden)
    bank = fit(model, sets, recipes, seeds)
    assert max(rows) > 60 >= rows[-1]
    same_losses(calm, bank)
    rows.clear()
    long = [texts(1, [90, 70])]
    kept = fit(model, long, [PLAIN], [1])
    assert kept.frozen.checkpointing, "one text that does not fit is computed twice instead of kept"
    monkeypatch.undo()
    same_losses(fit(model, long, [PLAIN], [1]), kept)


def test_memory_that_runs_out_before_training_gives_fewer_slots(monkeypatch, steps):
    model = tiny("llama")
    sets, recipes, seeds = varied(6)
    calm = fit(model, sets, recipes, seeds)
    steps.clear()
    own = torch.zeros

    def zeros(*size: Any, **kwargs: Any) -> torch.Tensor:
        if len(size) == 2 and size[0] > 2 and size[1] > 1000:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(*size, **kwargs)

    monkeypatch.setattr(torch, "zeros", zeros)
    bank = fit(model, sets, recipes, seeds)
    assert max(map(len, steps)) == 2
    same_losses(calm, bank)
