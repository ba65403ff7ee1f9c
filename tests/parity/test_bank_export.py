"""What a bank exports is what it answered with: PEFT loads it, every matrix finds its layer, the answers agree."""

import json

import pytest
import torch
from bank_models import greedy, log_likelihood, texts, tiny
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from seal_ray.inner import Sampling, fit
from seal_ray.inner.export import check_adapter
from seal_ray.inner.frozen import Frozen
from seal_ray.records import Recipe

RECIPES = [
    Recipe(rank=8, alpha=16, epochs=6, lr=5e-3),
    Recipe(rank=3, alpha=7, epochs=4, lr=5e-3, targets=("v_proj", "down_proj")),
    Recipe(rank=6, alpha=3, epochs=4, lr=5e-3, targets=("model.layers.1.self_attn.q_proj",)),
]
SETS = [texts(1, [12, 20]), texts(2, [30]), texts(3, [16, 9])]


def same_outputs(bank, number, loaded) -> None:
    prompts = [[e.ids[:4] for e in own] for own in SETS]
    answers = bank.answer(prompts, Sampling(10, eos_ids=(2,)))[number]
    scores = bank.likelihood([[(e.ids[:4], e.ids[4:]) for e in own] for own in SETS])[number]
    for example, prompt, sample, (total, _) in zip(SETS[number], prompts[number], answers, scores, strict=True):
        assert greedy(loaded, prompt, 10) == list(sample[0].ids)
        assert log_likelihood(loaded, example.ids[:4], example.ids[4:]) == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_exported_adapter_answers_in_peft_as_it_did_in_the_bank(tmp_path, number):
    bank = fit(tiny("qwen2"), SETS, RECIPES, [1, 2, 3])
    bank.export(number, tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir() if f.suffix != ".md") == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    loaded = PeftModel.from_pretrained(tiny("qwen2"), str(tmp_path)).eval()
    same_outputs(bank, number, loaded)
    prompt = SETS[number][0].ids[:4]
    base = log_likelihood(tiny("qwen2"), prompt, SETS[number][0].ids[4:])
    assert log_likelihood(loaded, prompt, SETS[number][0].ids[4:]) != pytest.approx(base, abs=1e-2), "it does something"


@pytest.mark.parametrize("number", [0, 1])
def test_over_a_policy_one_exported_adapter_holds_both(tmp_path, number):
    base = tiny("llama")
    policy = get_peft_model(tiny("llama"), LoraConfig(r=5, lora_alpha=10, target_modules=["q_proj", "up_proj"]))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    bank = fit(policy.eval(), SETS, RECIPES, [1, 2, 3])
    bank.export(number, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    ranks = {v.shape[0] for k, v in load_file(str(tmp_path / "adapter_model.safetensors")).items() if "lora_A" in k}
    assert ranks == {config["r"]}, "one rank for all layers, as vLLM wants it"
    same_outputs(bank, number, PeftModel.from_pretrained(base, str(tmp_path)).eval())


def test_a_matrix_without_a_layer_is_refused(tmp_path):
    model = tiny("llama")
    fit(model, SETS[:1], RECIPES[:1], [1]).export(0, tmp_path)
    file = str(tmp_path / "adapter_model.safetensors")
    tensors = load_file(file)
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    save_file({**{k: v for k, v in tensors.items() if k != key}, key.replace("q_proj", "query"): tensors[key]}, file)
    with pytest.raises(ValueError, match="matches no layer"):
        check_adapter(Frozen(model), tmp_path)
    save_file({**tensors, key: tensors[key][:, :5].contiguous()}, file)
    with pytest.raises(ValueError, match="has shape"):
        check_adapter(Frozen(model), tmp_path)
    save_file({**tensors, key: torch.full_like(tensors[key], float("nan"))}, file)
    with pytest.raises(ValueError, match="not finite"):
        check_adapter(Frozen(model), tmp_path)
