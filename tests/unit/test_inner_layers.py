"""Which layers of a model get adapters, and what becomes of one that a forward does not come by."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load, save
from test_inner_isolation import SIZES as SMALL
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, LlamaConfig, LlamaForCausalLM

from seal_ray.inner import fit, training
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.keep import KEEPERS
from seal_ray.inner.recipe import check_recipe
from seal_ray.inner.reference import fit_one
from seal_ray.records import ADAPTER, ADAPTER_CONFIG, Example, Keeping, Recipe, StudyCourse

SIZES: dict[str, Any] = SMALL | {"head_dim": 12}
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


def course(start: Mapping[str, bytes], method: str) -> StudyCourse:
    return StudyCourse(order=((0, 1),), rates=(1e-2,), start=start, keeping=Keeping(method))


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


@pytest.mark.parametrize("method", KEEPERS)
def test_a_stream_goes_on_where_a_layer_is_passed_by(method: str, dirty: None) -> None:
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    model.model.layers[1].spare = torch.nn.Linear(48, 48)
    files: dict[str, bytes] = {}
    for _ in range(2):
        bank = fit(model, [TEXTS], [RECIPE], [5], continued=[course(files, method)])
        assert bank.failures == [None]
        files = bank.files[0]
    assert any("spare.lora_B" in key and not value.any() for key, value in load(files[ADAPTER]).items())


def test_a_stream_begins_with_an_adapter_that_reaches_the_vision_tower_too(tmp_path: Path) -> None:
    policy = get_peft_model(seeing(), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    policy.save_pretrained(str(tmp_path))
    start = {name: (tmp_path / name).read_bytes() for name in (ADAPTER, ADAPTER_CONFIG)}
    assert any("vision_tower" in key for key in load(start[ADAPTER]))
    bank = fit(seeing(), [TEXTS], [RECIPE], [5], continued=[course(start, "fresh")])
    assert bank.failures == [None]
    trained = load(start[ADAPTER])
    tower = next(key for key in trained if "vision_tower" in key and "lora_B" in key)
    trained[tower] += 1
    with pytest.raises(ValueError, match=r"vision_tower.*no layer takes it"):
        fit(seeing(), [TEXTS], [RECIPE], [5], continued=[course({**start, ADAPTER: save(trained)}, "fresh")])


def test_an_adapter_of_a_model_that_sees_is_read_by_peft_with_nothing_missing(tmp_path: Path) -> None:
    bank = fit(seeing(), [TEXTS], [RECIPE], [5], continued=[course({}, "none")])
    bank.export(0, tmp_path / "wave")
    (tmp_path / "stream").mkdir()
    for name, data in bank.files[0].items():
        (tmp_path / "stream" / name).write_bytes(data)
    for folder in ("wave", "stream"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = PeftModel.from_pretrained(seeing(), str(tmp_path / folder))
        assert not [name for name, _ in model.named_parameters() if "vision_tower" in name and "lora_" in name]
