"""Ragged rows (grouped products, no padding) train what blocks train. On CPU: the same products a GPU would launch."""

import dataclasses
from typing import Any

import pytest
import torch
from bank_models import texts, tiny
from peft import LoraConfig, get_peft_model
from test_bank_against_peft import agree, varied

from seal_ray.inner import fit, products, training
from seal_ray.inner.products import RaggedRows, aligned
from seal_ray.records import Recipe


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


def test_ranks_that_grouped_products_do_not_take_are_trained_in_blocks(ragged):
    fit(tiny("llama"), [texts(1, [9])], [Recipe(rank=3, alpha=6, epochs=1)], [1])
    assert not ragged
    assert not products.ragged_suits(torch.device("cpu"), torch.bfloat16, 8, [64]), "on a CPU blocks are faster"
