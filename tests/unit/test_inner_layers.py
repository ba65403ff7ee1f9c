"""Which layers of a model get adapters, and what becomes of one that a forward does not come by."""

import math
from typing import Any

import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, LlamaConfig, LlamaForCausalLM

from seal_ray.inner import fit, training
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.recipe import check_recipe
from seal_ray.inner.reference import fit_one
from seal_ray.records import Example, Recipe

SIZES: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
TEXTS = [Example(tuple(range(5, 5 + n)), (True,) * n) for n in (9, 7)]
RECIPE = Recipe(rank=4, alpha=8, epochs=2, lr=1e-2)


@pytest.fixture
def dirty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that nobody has written to holds what it likes."""
    empty = torch.empty

    def used(*size: Any, **more: Any) -> torch.Tensor:
        made = empty(*size, **more)
        return made.fill_(math.nan) if made.is_floating_point() else made

    monkeypatch.setattr(training.torch, "empty", used)


def seeing() -> Any:
    torch.manual_seed(2)
    return Gemma3ForConditionalGeneration(Gemma3Config(text_config=SIZES, vision_config=VISION)).eval()


def test_of_a_model_that_sees_the_decoder_and_the_head_have_adapters() -> None:
    frozen = Frozen(seeing())
    (head,) = [name for name in frozen.layers if ".layers." not in name]
    assert head == frozen.head_name and len(frozen.layers) == 2 * 7 + 1
    assert all("language_model" in name for name in frozen.layers if name != head)
    last = check_recipe(Recipe(rank=4, last_layers=1), frozen.layers, head)
    assert len(last) == 7 and all(".layers.1." in name for name in last), "the vision tower has more blocks"
    with pytest.raises(ValueError, match="this model's 2 blocks"):
        check_recipe(Recipe(rank=4, last_layers=3), frozen.layers, head)


def test_a_model_that_sees_is_trained_as_by_its_oracle(dirty: None) -> None:
    model = seeing()
    bank = fit(model, [TEXTS], [RECIPE], [5])
    reference = fit_one(model, TEXTS, RECIPE, 5)
    assert bank.failures == [None] and bank.losses[0] == pytest.approx(reference.losses, abs=1e-4)
    reference.close()


def test_a_layer_that_no_forward_comes_by_has_no_gradient(dirty: None) -> None:
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    without = fit(model, [TEXTS], [RECIPE], [5])
    model.model.layers[1].spare = torch.nn.Linear(48, 48)
    bank = fit(model, [TEXTS], [RECIPE], [5])
    assert "model.layers.1.spare" in bank.stack.widths
    assert bank.failures == [None] and bank.losses == [pytest.approx(own, abs=1e-5) for own in without.losses]
    assert not bank.stack.b(bank.weights[0][None], "model.layers.1.spare").any()
