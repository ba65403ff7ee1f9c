"""Many targets of one question: each as likely as after its prompt alone, and the prompt read once for all of them."""

import dataclasses
from typing import Any

import pytest
import torch
from bank_models import log_likelihood, texts, tiny

from seal_ray.inner import fit, likelihood
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.reference import fit_one
from seal_ray.records import Recipe

RECIPE = Recipe(rank=4, alpha=8, epochs=1, lr=3e-3)
SETS = [texts(i, [10 + 3 * i, 8]) for i in range(2)]
PROMPTS = [[(5, 9, 12, 7, 30), (5, 9, 12)], [(8, 9, 10, 44)], [(8, 9, 10, 44)]]
TARGETS = [(7, 8), (7, 8, 9, 10, 11), (60,), (61, 62, 63), (7, 8)]
PAIRS: Any = [[(p, t) for t in TARGETS for p in own] for own in PROMPTS]  # a prompt's targets do not stand together


@pytest.fixture
def rows(monkeypatch: Any) -> list[int]:
    """The rows of every packed forward from here on."""
    counted: list[int] = []
    own = Frozen.packed

    def packed(self: Frozen, layout: Any, *args: Any, **kwargs: Any) -> Any:
        counted.append(layout.rows)
        return own(self, layout, *args, **kwargs)

    monkeypatch.setattr(Frozen, "packed", packed)
    return counted


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "lm_head")])
def test_targets_that_share_a_prompt_are_as_likely_as_each_alone(targets):
    model = tiny("qwen2")
    recipe = dataclasses.replace(RECIPE, targets=targets)
    bank = fit(model, [*SETS, []], [recipe, recipe, None], [1, 2, 3])
    scores = bank.likelihood(PAIRS)
    for i, own in enumerate(PAIRS):
        reference = fit_one(model, SETS[i], recipe, (1, 2)[i]) if i < 2 else None
        judge = reference.model if reference else model
        for (prompt, target), (total, count) in zip(own, scores[i], strict=True):
            assert count == len(target)
            assert total == pytest.approx(log_likelihood(judge, prompt, target), abs=1e-4)
        if reference:
            reference.close()


def test_a_prompt_is_read_once_and_a_target_costs_its_own_tokens(rows):
    bank = fit(tiny("llama"), [[]], [None], [1])
    prompt = tuple(range(3, 43))
    rows.clear()
    bank.likelihood([[(prompt, (7 + k, 8, 9)) for k in range(11)]])
    assert rows == [40 + 11 * 2], "a target's last token is predicted and never read"
    rows.clear()
    bank.likelihood([[(prompt, (7,)), (prompt, (8,)), (prompt, (7,))]])
    assert rows == [40]


def test_more_targets_than_a_tree_holds_begin_another(rows, monkeypatch):
    model = tiny("llama")
    bank = fit(model, [[]], [None], [1])
    pairs = [[((5, 9, 12, 7), tuple(range(3 + k, 23 + k))) for k in range(6)]]
    whole = bank.likelihood(pairs)
    monkeypatch.setattr(likelihood, "TREE", 45)
    rows.clear()
    cut = bank.likelihood(pairs)
    assert rows == [3 * (4 + 2 * 19)]
    assert [t for t, _ in cut[0]] == pytest.approx([t for t, _ in whole[0]], abs=1e-4)


@pytest.mark.parametrize("short", [True, False])
def test_a_sliding_window_is_counted_in_a_targets_own_positions(monkeypatch, short):
    from transformers import MistralConfig, MistralForCausalLM

    from seal_ray.inner import attention

    if not short:
        monkeypatch.setattr(attention, "SHORT", 0)  # what an accelerator does
    torch.manual_seed(3)
    config = MistralConfig(
        vocab_size=101,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=6,
    )
    model: Any = MistralForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(3)
    pairs: Any = [[((5, 9, 12, 7, 30, 41, 8), t) for t in TARGETS]]
    found = fit(model, [[]], [None], [1]).likelihood(pairs)[0]
    for (prompt, target), (total, _) in zip(pairs[0], found, strict=True):
        assert total == pytest.approx(log_likelihood(model, prompt, target), abs=1e-4)
