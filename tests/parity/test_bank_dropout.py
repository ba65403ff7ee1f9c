"""Dropout in a bank: what is left out depends on nobody else, and a plain loop leaves out the same."""

import dataclasses

import pytest
import torch
from bank_models import texts, tiny
from test_bank_distill import DISTILL, ON_POLICY, pairs, policy_over

from seal_ray.inner import fit
from seal_ray.inner.dropout import PLACES, kept, text_key
from seal_ray.inner.reference import fit_one
from seal_ray.records import Recipe

DROPPED = Recipe(rank=4, alpha=8, epochs=3, lr=3e-3, dropout=0.3)


def test_a_share_is_left_out_and_made_up_for():
    keys = text_key(7, 3, 1) + torch.arange(400)
    for rate in (0.1, 0.5):
        shares = kept(keys, torch.full((400,), rate), "layers.0.q_proj", 256)
        assert (shares == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
        assert shares.mean().item() == pytest.approx(1, abs=0.02) and shares.max().item() == pytest.approx(
            1 / (1 - rate)
        )
        assert (shares == 0).float().mean(0).std() < 0.05 and (shares == 0).float().mean(1).std() < 0.05, "even"
    other = kept(keys, torch.full((400,), 0.5), "layers.0.v_proj", 256)
    assert ((other == 0) == (shares == 0)).float().mean().item() == pytest.approx(0.5, abs=0.02), "each layer its own"
    later = kept(keys + PLACES, torch.full((400,), 0.5), "layers.0.q_proj", 256)
    assert ((later == 0) == (shares == 0)).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert kept(keys, torch.zeros(400), "a", 8).eq(1).all()


@pytest.mark.parametrize("over_policy", [False, True])
def test_adapters_with_dropout_equal_their_oracles(over_policy):
    model = policy_over(tiny("llama")) if over_policy else tiny("llama")
    sets = [texts(1, [20, 9, 33]), texts(2, [14, 8]), pairs(model, 3, 3), texts(4, [25]), pairs(model, 5, 2)]
    recipes = [
        DROPPED,
        dataclasses.replace(DROPPED, batch_size=2, dropout=0.1, targets=("q_proj", "down_proj")),
        dataclasses.replace(DISTILL, dropout=0.2),
        dataclasses.replace(DROPPED, dropout=0.0),
        dataclasses.replace(ON_POLICY, dropout=0.2),
    ]
    bank = fit(model, sets, recipes, [1, 2, 3, 4, 5], slots=3)
    for i, (own, recipe) in enumerate(zip(sets, recipes, strict=True)):
        reference = fit_one(model, own, recipe, i + 1)
        assert bank.losses[i] == pytest.approx(reference.losses, abs=1e-4), f"adapter {i}"
        reference.close()
    pieces = fit(model, sets, recipes, [1, 2, 3, 4, 5], slots=1, tokens_limit=30, checkpointing=True)
    for a, b in zip(bank.losses, pieces.losses, strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    without = fit(model, [sets[0]], [dataclasses.replace(DROPPED, dropout=0.0)], [1])
    assert without.losses[0] != pytest.approx(bank.losses[0], abs=1e-3)
    with pytest.raises(ValueError, match="dropout 1"):
        fit(model, sets[:1], [dataclasses.replace(DROPPED, dropout=1.0)], [1])
