"""A bank's adapters equal the same candidates trained one at a time with PEFT, whatever stands beside them."""

import dataclasses
from typing import Any

import pytest
import torch
from bank_models import DEVICE, SAME, greedy, log_likelihood, texts, tiny
from peft import LoraConfig, get_peft_model

from seal_ray.inner import Sampling, fit
from seal_ray.inner.frozen import linear_layers, plain_weights
from seal_ray.inner.reference import fit_one
from seal_ray.records import Example, Recipe

PLAIN = Recipe(rank=8, alpha=16, epochs=3, lr=3e-3)


def varied(count: int = 16) -> tuple[list[list[Example]], list[Recipe], list[int]]:
    """Sixteen candidates of which hardly two share rank, length, schedule, batch or number of steps."""
    sets, recipes = [], []
    for i in range(count):
        sets.append(texts(i, [4 + (7 * i + 11 * k) % 37 for k in range(1 + i % 5)]))
        recipes.append(
            Recipe(
                rank=(2, 4, 7, 8)[i % 4],
                alpha=(4.0, 16.0, 5.0)[i % 3],
                targets=(("all-linear",), ("q_proj", "v_proj"), ("down_proj",))[i % 3],
                epochs=1 + i % 4,
                batch_size=1 + i % 3,
                accumulation=1 + i % 2,
                lr=1e-3 * (1 + i % 3),
                schedule=("linear", "cosine", "constant")[(i // 2) % 3],
                warmup=i % 3,
                clip=(1.0, 0.0, 0.1)[i % 3],
                weight_decay=(0.0, 0.1)[i % 2],
                betas=((0.9, 0.999), (0.8, 0.95))[i % 2],
                shuffle=i % 4 != 3,
            )
        )
    return sets, recipes, [100 + i // 2 for i in range(count)]


def agree(model, sets, recipes, seeds, bank) -> None:
    """Losses within 1e-4, equal greedy answers, likelihoods within 1e-3, for every adapter."""
    prompts = [[e.ids[: 3 + k] for k, e in enumerate(own)] for own in sets]
    answers = bank.answer(prompts, Sampling(10, eos_ids=(2,)))
    scores = bank.likelihood([[(e.ids[:2], e.ids[2:]) for e in own] for own in sets])
    for i, (own, recipe, seed) in enumerate(zip(sets, recipes, seeds, strict=True)):
        reference = fit_one(model, own, recipe, seed)
        assert len(bank.losses[i]) == recipe.steps(len(own))
        assert bank.losses[i] == pytest.approx(reference.losses, abs=1e-4), f"adapter {i}"
        for k, example in enumerate(own):
            assert list(answers[i][k][0].ids) == greedy(reference.model, prompts[i][k], 10), f"adapter {i}, {k}"
            total, count = scores[i][k]
            assert count == len(example.ids) - 2
            assert total == pytest.approx(log_likelihood(reference.model, example.ids[:2], example.ids[2:]), abs=1e-3)
        reference.close()


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_one_adapter_equals_its_oracle(kind):
    model = tiny(kind)
    sets = [texts(5, [20, 9, 33])]
    agree(model, sets, [PLAIN], [3], fit(model, sets, [PLAIN], [3]))


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_sixteen_different_adapters_equal_their_oracles(kind):
    model = tiny(kind)
    sets, recipes, seeds = varied()
    agree(model, sets, recipes, seeds, fit(model, sets, recipes, seeds))


def test_a_small_limit_of_tokens_changes_nothing():
    model = tiny("llama")
    sets, recipes, seeds = varied()
    whole, pieces = fit(model, sets, recipes, seeds), fit(model, sets, recipes, seeds, tokens_limit=40)
    for a, b in zip(whole.losses, pieces.losses, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_an_adapter_is_the_same_alone_and_among_neighbours():
    model = tiny("llama")
    sets, recipes, seeds = varied()
    among = fit(model, sets, recipes, seeds)
    for i in (0, 3, 7, 14):
        alone = fit(model, [sets[i]], [recipes[i]], [seeds[i]])
        assert among.losses[i] == pytest.approx(alone.losses[0], abs=1e-5)


def test_a_changed_text_moves_nobody_elses_loss():
    model = tiny("llama")
    sets, recipes, seeds = varied()
    before = fit(model, sets, recipes, seeds)
    changed = list(sets)
    changed[6] = texts(999, [len(e.ids) for e in sets[6]])
    after = fit(model, changed, recipes, seeds)
    assert before.losses[6] != pytest.approx(after.losses[6], abs=1e-3)
    for i in range(16):
        if i != 6:
            assert before.losses[i] == pytest.approx(after.losses[i], abs=SAME, rel=0), (
                f"adapter {i} saw its neighbour's text"
            )


@pytest.mark.parametrize(("kind", "dora"), [("llama", False), ("qwen2", False), ("llama", True)])
def test_adapters_over_a_frozen_policy_equal_their_oracles(kind, dora):
    config = LoraConfig(r=5, lora_alpha=10, target_modules=["q_proj", "down_proj"], lora_dropout=0.3, use_dora=dora)
    model = get_peft_model(tiny(kind), config)
    base: Any = model.get_base_model()
    beneath = [plain_weights(layer) for layer in linear_layers(base).values()]
    assert sum(b is None for b in beneath) == 4 * dora and any(b and b.policy for b in beneath) != dora
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    policy = {n: p.detach().clone() for n, p in model.named_parameters() if "lora_" in n}
    without = fit(base, [texts(5, [20])], [PLAIN], [3])
    sets, recipes, seeds = varied(6)
    bank = fit(model, sets, recipes, seeds)
    agree(model, sets, recipes, seeds, bank)
    assert list(model.active_adapters) == ["default"]
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            assert parameter.requires_grad and torch.equal(parameter, policy[name])
    assert without.losses[0], "the base alone can still be trained on"


def test_a_policys_adapter_is_part_of_what_is_trained_on():
    base = tiny("llama")
    sets = [texts(5, [20, 12])]
    plain = fit(base, sets, [PLAIN], [3]).losses[0]
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1)
    assert fit(model, sets, [PLAIN], [3]).losses[0] != pytest.approx(plain, abs=1e-3)


def test_the_output_head_can_be_a_target():
    model = tiny("llama")
    recipe = dataclasses.replace(PLAIN, targets=("all-linear", "lm_head"))
    sets = [texts(1, [12, 20]), texts(2, [9])]
    agree(model, sets, [recipe, PLAIN], [1, 2], fit(model, sets, [recipe, PLAIN], [1, 2]))


def test_padding_that_is_trained_on_equals_its_oracle():
    model = tiny("llama")
    recipe = dataclasses.replace(PLAIN, pad_to=48, epochs=1)
    sets = [texts(1, [12, 20]), texts(2, [9])]
    agree(model, sets, [recipe, recipe], [1, 2], fit(model, sets, [recipe, recipe], [1, 2]))


def test_an_adapter_that_breaks_leaves_its_neighbours_as_they_were():
    model = tiny("llama")
    sets, recipes, seeds = varied(8)
    calm = fit(model, sets, recipes, seeds)
    wild = list(recipes)
    wild[2] = dataclasses.replace(recipes[2], targets=("all-linear",), lr=1e30, warmup=0, clip=0.0, epochs=6)
    bank = fit(model, sets, wild, seeds)
    failure = bank.failures[2]
    assert failure is not None and failure.kind == "nan_loss" and "optimiser step" in failure.message
    assert len(bank.losses[2]) < wild[2].steps(len(sets[2]))
    for i in range(8):
        if i != 2:
            assert bank.failures[i] is None
            assert bank.losses[i] == pytest.approx(calm.losses[i], abs=max(SAME, 1e-6))
    with pytest.raises(ValueError, match="adapter 2 was not trained"):
        bank.export(2, "unused")


def test_the_model_is_as_it_was_after_a_bank():
    model = tiny("llama")
    model.train()
    ids = torch.tensor([texts(1, [30])[0].ids], device=DEVICE)
    before = model(input_ids=ids).logits
    fit(model, [texts(1, [12])], [PLAIN], [1]).answer([[(5, 6)]], Sampling(3))
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(model(input_ids=ids).logits, before)


def test_checkpointing_changes_no_loss(monkeypatch):
    from seal_ray.inner import frozen

    model = tiny("llama")
    sets, recipes, seeds = varied(4)
    plain = fit(model, sets, recipes, seeds)
    again = 0
    own = frozen.checkpoint

    def counted(*args, **kwargs):
        nonlocal again
        again += 1
        return own(*args, **kwargs)

    monkeypatch.setattr(frozen, "checkpoint", counted)
    kept = fit(model, sets, recipes, seeds, checkpointing=True)
    assert again > 0
    for a, b in zip(plain.losses, kept.losses, strict=True):
        assert a == pytest.approx(b, abs=1e-6)
