"""Ragged rows (grouped products, no padding) train what blocks train. On CPU: the same products a GPU would launch."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from bank_models import DEVICE, needs_bitsandbytes, texts, tiny
from peft import LoraConfig, get_peft_model
from test_bank_against_peft import agree, varied

from seal_ray import models
from seal_ray.inner import fit, products, training
from seal_ray.inner.frozen import linear_layers, plain_weights
from seal_ray.inner.products import RaggedRows, aligned
from seal_ray.inner.reference import fit_one
from seal_ray.models.builtin import make_tiny
from seal_ray.records import Recipe

pytestmark = pytest.mark.skipif(
    DEVICE != "cpu",
    reason="in float32, which a GPU's grouped products do not take; `jobs/gpu_check.py` looks at its 16 bits",
)


@pytest.fixture
def ragged(monkeypatch: Any) -> list[int]:
    """Ragged rows wherever the shapes allow them; counts the grouped forwards."""
    calls: list[int] = []
    own = RaggedRows.inner

    def inner(self: RaggedRows, x: Any, a: Any) -> Any:
        calls.append(len(x))
        return own(self, x, a)

    monkeypatch.setattr(training, "ragged_suits", lambda device, *shapes: aligned(*shapes))
    monkeypatch.setattr(RaggedRows, "inner", inner)
    return calls


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_adapters_of_different_ranks_in_ragged_rows_equal_their_oracles(kind, ragged):
    model = tiny(kind)
    sets, recipes, seeds = varied(8)
    bank = fit(model, sets, recipes, seeds, slots=5)
    assert ragged
    agree(model, sets, recipes, seeds, bank)


def test_ragged_rows_in_several_forwards_and_over_a_policy_equal_their_oracles(ragged):
    model = get_peft_model(tiny("llama"), LoraConfig(r=5, lora_alpha=10, target_modules=["q_proj", "down_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    sets, recipes, seeds = varied(6)
    bank = fit(model, sets, recipes, seeds, tokens_limit=40)
    assert max(ragged) <= 40
    agree(model, sets, recipes, seeds, bank)


def test_a_broken_neighbour_in_ragged_rows_moves_nobody(ragged):
    model = tiny("llama")
    sets, recipes, seeds = varied(6)
    calm = fit(model, sets, recipes, seeds)
    wild = list(recipes)
    wild[3] = dataclasses.replace(recipes[3], targets=("all-linear",), lr=1e30, warmup=0, clip=0.0, epochs=6)
    bank = fit(model, sets, wild, seeds)
    assert [i for i, f in enumerate(bank.failures) if f] == [3]
    for i in (0, 1, 2, 4, 5):
        assert bank.losses[i] == pytest.approx(calm.losses[i], abs=1e-5)


@pytest.mark.parametrize("limit", [2048, 20])
def test_an_empty_slot_between_others_and_what_a_gpu_leaves_in_its_gradients_move_nobody(limit, ragged, monkeypatch):
    model, recipe = tiny("llama"), Recipe(rank=8, alpha=16, epochs=3, lr=3e-3)
    sets = [texts(i, [9, 7]) for i in range(4)]
    calm = fit(model, sets, [recipe] * 4, [1, 2, 3, 4])
    asked: list[int] = []
    empty = 0
    own = products.grouped_gradients

    def keep(grad: torch.Tensor, left: Any, right: Any, ends: torch.Tensor, fresh: bool) -> None:
        nonlocal empty
        own(grad, left, right, ends, fresh)
        rows = ends.diff(prepend=torch.zeros(1, dtype=torch.int32))
        grad[rows == 0] = math.nan  # as if it were whatever was in memory
        empty += int((rows == 0).sum())

    def dropped(number: int) -> bool:
        asked.append(number)
        return number == 1 and asked.count(1) == 2

    monkeypatch.setattr(products, "grouped_gradients", keep)
    ragged.clear()
    bank = fit(model, sets, [recipe] * 4, [1, 2, 3, 4], slots=4, tokens_limit=limit, dropped=dropped)
    assert max(ragged) <= limit and empty > 0
    assert [f and f.kind for f in bank.failures] == [None, "dropped", None, None]
    for i in (0, 2, 3):
        assert bank.losses[i] == pytest.approx(calm.losses[i], abs=1e-5)
    assert bank.losses[1] == pytest.approx(calm.losses[1][:1], abs=1e-5)


def test_ragged_rows_over_a_quantised_base_equal_their_oracles(ragged, tmp_path: Path):
    needs_bitsandbytes()
    make_tiny(tmp_path)
    model: Any = models.load(tmp_path, dtype="float32", quantization="4bit")
    assert any(plain_weights(layer) is None for layer in linear_layers(model).values()), "it is quantised"
    sets, recipes = [texts(1, [20, 9]), texts(2, [12])], [Recipe(rank=8, alpha=16, epochs=1, lr=3e-3)] * 2
    bank = fit(model, sets, recipes, [1, 2])
    assert ragged
    for i, own in enumerate(sets):
        reference = fit_one(model, own, recipes[i], i + 1)
        assert bank.losses[i] == pytest.approx(reference.losses, abs=1e-4)
        reference.close()


def test_adapters_without_a_layer_and_below_the_largest_rank_share_a_group(ragged):
    """In a group everybody has rows; where an adapter is not on the layer its weights are zeros."""
    model = tiny("qwen2")
    sets = [texts(i, [9, 14]) for i in range(3)]
    recipes = [
        Recipe(rank=8, alpha=16, epochs=2, lr=3e-3),
        Recipe(rank=3, alpha=6, epochs=2, lr=3e-3, targets=("q_proj", "v_proj")),
        Recipe(rank=5, alpha=5, epochs=2, lr=3e-3, targets=("up_proj",)),
    ]
    agree(model, sets, recipes, [1, 2, 3], fit(model, sets, recipes, [1, 2, 3]))
    assert ragged


def test_ranks_that_grouped_products_do_not_take_are_trained_in_blocks(ragged):
    fit(tiny("llama"), [texts(1, [9])], [Recipe(rank=3, alpha=6, epochs=1)], [1])
    assert not ragged
    assert not products.ragged_suits(torch.device("cpu"), torch.bfloat16, 8, [64]), "on a CPU blocks are faster"
