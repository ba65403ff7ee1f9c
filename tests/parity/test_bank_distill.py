"""What a bank learns from a teacher equals the same distillation with PEFT, one candidate at a time."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from bank_models import VOCABULARY, texts, tiny
from peft import LoraConfig, get_peft_model

from seal_ray.inner import fit, teacher
from seal_ray.inner.distill import TOP
from seal_ray.inner.reference import fit_one
from seal_ray.records import Example, Recipe

DISTILL = Recipe(rank=8, alpha=16, epochs=3, lr=3e-3, objective="distill")
ON_POLICY = dataclasses.replace(DISTILL, objective="distill_on_policy", answer_tokens=6)


def ranked(model: Any, read: Sequence[int], rank: int) -> int:
    """The token that a model expects next, by its rank."""
    with torch.no_grad():
        return int(
            model(input_ids=torch.tensor([list(read)], device=model.device)).logits[0, -1].topk(rank + 1).indices[-1]
        )


def pairs(model: Any, seed: int, count: int) -> list[Example]:
    """Questions with answers of which a teacher expects something, and what it reads in the question's place."""
    rng = random.Random(seed)

    def some(least: int, most: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, VOCABULARY) for _ in range(rng.randint(least, most)))

    made = []
    for _ in range(count):
        question = some(4, 12)
        teacher = (*some(10, 30), *question)
        answer = (ranked(model, teacher, 4), *some(2, 6), 2)
        mask = (False,) * len(question) + (True,) * len(answer)
        made.append(Example((*question, *answer), mask, teacher))
    return made


def policy_over(model: Any) -> Any:
    policy = get_peft_model(model, LoraConfig(r=5, lora_alpha=10, target_modules=["q_proj", "down_proj"]))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    return policy


def mixed(model: Any) -> tuple[list[list[Example]], list[Recipe], list[int]]:
    """Candidates that learn from a teacher at given answers and at their own, from texts, and from both at once."""
    own = {seed: pairs(model, seed, count) for seed, count in ((1, 4), (3, 3), (4, 5), (5, 3))}
    sets = [own[1], texts(2, [20, 9, 33]), [*own[3], *texts(3, [40])], own[4], [*own[5], *texts(6, [17])], own[1]]
    recipes = [
        DISTILL,
        Recipe(rank=4, alpha=4, epochs=4, lr=3e-3),
        dataclasses.replace(DISTILL, batch_size=2, distill_temperature=1.0, targets=("q_proj", "v_proj")),
        dataclasses.replace(ON_POLICY, batch_size=2, accumulation=2, epochs=4),
        dataclasses.replace(ON_POLICY, rank=3, shuffle=False),
        DISTILL,
    ]
    return sets, recipes, [7, 8, 9, 10, 11, 12]


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("over_policy", [False, True])
def test_distilled_adapters_equal_their_oracles(kind, over_policy):
    model = policy_over(tiny(kind)) if over_policy else tiny(kind)
    sets, recipes, seeds = mixed(model)
    bank = fit(model, sets, recipes, seeds, slots=4)
    for i, (own, recipe, seed) in enumerate(zip(sets, recipes, seeds, strict=True)):
        assert bank.failures[i] is None
        reference = fit_one(model, own, recipe, seed)
        assert len(bank.losses[i]) == recipe.steps(len(own))
        assert bank.losses[i] == pytest.approx(reference.losses, abs=2e-5), f"adapter {i}"
        reference.close()
    steps = len(bank.losses[0]) // 3
    assert sum(bank.losses[0][-steps:]) < sum(bank.losses[0][:steps]), "what the teacher expects is learned"


def test_a_head_of_its_own_and_small_forwards_change_nothing():
    model = tiny("llama")
    sets, recipes, seeds = mixed(model)
    whole = fit(model, sets, recipes, seeds)
    pieces = fit(model, sets, recipes, seeds, tokens_limit=50, slots=2)
    for a, b in zip(whole.losses, pieces.losses, strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    headed = dataclasses.replace(DISTILL, targets=("all-linear", "lm_head"))
    bank = fit(model, [sets[2]], [headed], [3])
    reference = fit_one(model, sets[2], headed, 3)
    assert bank.losses[0] == pytest.approx(reference.losses, abs=2e-5)
    reference.close()


def test_the_teacher_is_asked_once_for_what_several_candidates_learn(monkeypatch):
    asked = []
    own = teacher.top_tokens
    monkeypatch.setattr(teacher, "top_tokens", lambda logits, *rest: asked.append(len(logits)) or own(logits, *rest))
    model = tiny("llama")
    sets = [pairs(model, 1, 4)] * 5
    bank = fit(model, sets, [DISTILL] * 5, [1, 2, 3, 4, 5])
    assert sum(asked) == sum(sum(e.mask) for e in sets[0]), (
        "each answer's tokens once, not once a candidate or an epoch"
    )
    assert bank.taught == [sum(len(e.teacher) + sum(e.mask) - 1 for e in sets[0])] * 5
    assert bank.written == [0] * 5


def test_what_a_candidate_writes_is_its_own_and_counted():
    model = tiny("llama")
    sets, recipes, seeds = mixed(model)
    among = fit(model, sets, recipes, seeds)
    for i in (3, 4):
        alone = fit(model, [sets[i]], [recipes[i]], [seeds[i]])
        assert among.losses[i] == pytest.approx(alone.losses[0], abs=1e-5)
        assert among.written[i] == alone.written[0] and among.taught[i] == alone.taught[0]
        asked = sum(bool(e.teacher) for e in sets[i])
        assert asked * recipes[i].epochs <= among.written[i] <= asked * recipes[i].epochs * 6
    other = fit(model, [sets[3]], [recipes[3]], [99])
    assert other.losses[0] != pytest.approx(among.losses[3], abs=1e-3)


def test_what_can_not_be_taught_fails_by_its_own_kind_and_harms_nobody():
    model = tiny("llama")
    good = pairs(model, 1, 4)
    question = good[0]
    long = dataclasses.replace(question, teacher=(5,) * 252)
    expected = unexpected(model, question)
    sets = [good, [*good, long], [*good, expected], [*good, dataclasses.replace(question, teacher=(5, 999))], [long]]
    bank = fit(model, sets, [DISTILL] * 4 + [ON_POLICY], [1] * 5)
    kinds = [f.kind if f else "" for f in bank.failures]
    assert kinds == ["", "teacher_too_long", "not_expected", "bad_token", "teacher_too_long"]
    assert bank.losses[0] == pytest.approx(fit(model, [good], [DISTILL], [1]).losses[0], abs=1e-5)
    assert not any(bank.losses[1:])
    with pytest.raises(ValueError, match="padding"):
        fit(model, [good], [dataclasses.replace(DISTILL, pad_to=64)], [1])


def unexpected(model: Any, example: Example) -> Example:
    """The same question with an answer of which the teacher expects nothing."""
    ids = list(example.ids[: example.first])
    for _ in range(3):
        ids.append(ranked(model, [*example.teacher, *ids[example.first :]], TOP + 10))
    return Example((*ids, 2), (False,) * example.first + (True,) * 4, example.teacher)


def test_adapters_of_the_last_layers_equal_their_oracle():
    model = tiny("llama")
    recipe = Recipe(rank=4, alpha=8, epochs=2, lr=3e-3, last_layers=1)
    sets = [texts(1, [12, 20]), texts(2, [9])]
    bank = fit(model, sets, [recipe, dataclasses.replace(recipe, last_layers=0)], [1, 2])
    assert {n.split(".")[2] for n in bank.wanted[0]} == {"1"} and {n.split(".")[2] for n in bank.wanted[1]} == {
        "0",
        "1",
    }
    reference = fit_one(model, sets[0], recipe, 1)
    assert bank.losses[0] == pytest.approx(reference.losses, abs=1e-4)
    reference.close()
    with pytest.raises(ValueError, match="last_layers 3 is none of this model's 2 blocks"):
        fit(model, sets[:1], [dataclasses.replace(recipe, last_layers=3)], [1])
