"""Over a base in 8 or 4 bits, a bank's adapters equal the same candidates trained alone with PEFT over that base."""

from pathlib import Path
from typing import Any

import pytest
import torch
from bank_models import DEVICE, needs_bitsandbytes, texts

from seal_ray import models
from seal_ray.inner import fit
from seal_ray.inner.frozen import linear_layers, plain_weights
from seal_ray.inner.reference import fit_one
from seal_ray.models.builtin import make_tiny
from seal_ray.records import Recipe

needs_bitsandbytes()

RECIPES = [Recipe(rank=4, alpha=8, epochs=2, lr=3e-3), Recipe(rank=2, alpha=8, epochs=1, targets=("q_proj",))]
SETS = [texts(1, [20, 9]), texts(2, [33])]


# in 8 bits activations are rounded too, so that a difference in a float's last digit becomes one of a 127th of the
# row's largest; columns with outliers are found over all rows together, so neighbours may be felt that much as well
@pytest.mark.parametrize(("bits", "close"), [("8bit", 2e-2), ("4bit", 1e-4)])
def test_adapters_over_a_quantised_base_equal_their_oracles(bits, close, tmp_path: Path):
    make_tiny(tmp_path)
    model: Any = models.load(tmp_path, dtype="float32", device=DEVICE, quantization=bits)
    assert any(plain_weights(layer) is None for layer in linear_layers(model).values()), "it is quantised"
    full: Any = models.load(tmp_path, dtype="float32", device=DEVICE)
    ids = torch.tensor([SETS[0][0].ids], device=DEVICE)
    assert not torch.allclose(model(input_ids=ids).logits, full(input_ids=ids).logits, atol=1e-3)
    bank = fit(model, SETS, RECIPES, [1, 2])
    for i, (own, recipe) in enumerate(zip(SETS, RECIPES, strict=True)):
        reference = fit_one(model, own, recipe, i + 1)
        assert bank.losses[i] == pytest.approx(reference.losses, abs=close)
        reference.close()
        alone = fit(model, [own], [recipe], [i + 1])
        assert bank.losses[i] == pytest.approx(alone.losses[0], abs=close), "its neighbour was felt"
