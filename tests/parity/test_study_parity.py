"""A study in a bank against the policy update that it stands for, and each method against what it promises."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from one_process_crew import save
from safetensors.torch import load

from seal_ray import models
from seal_ray.config import ModelSection, PolicySection
from seal_ray.inner import fit
from seal_ray.inner.bank import Bank
from seal_ray.inner.continued import MEMORY
from seal_ray.inner.export import PREFIX
from seal_ray.inner.keep import KEEPERS
from seal_ray.policy.in_bank import BankUpdate, in_bank
from seal_ray.policy.lessons import Lesson, lesson_text
from seal_ray.policy.single_engine import SingleEngine
from seal_ray.policy.training import Training
from seal_ray.records import ADAPTER, ADAPTER_CONFIG, Keeping, StudyCourse, derive_seed

SECTION = PolicySection(
    rank=4,
    alpha=8,
    lr=5e-3,
    epochs=3,
    global_batch=2,
    micro_batch_tokens=64,
    warmup=0.2,
    dtype="float32",
    checkpointing=False,
)
Files = Mapping[str, bytes]


def lessons(first: int, count: int = 5) -> list[Lesson]:
    """Texts of different lengths that begin alike in every step, and go on with tokens that no other step has."""
    made = []
    for number in range(count):
        ids = [5 + number, 20 + number, *(first + (7 * i + 3 * number) % 20 for i in range(4 + number))]
        made.append(Lesson(f"e{first}-{number}", f"t{first}", lesson_text((), ids)))
    return made


@pytest.fixture(scope="module")
def folder() -> str:
    return models.fetch(ModelSection(name="builtin:tiny"))


@pytest.fixture(scope="module")
def model(folder: str) -> Any:
    return models.load(folder, dtype="float32", device="cpu")


def updated(folder: str, start: str | None, own: Sequence[Lesson], section: PolicySection, seed: int, to: Path) -> str:
    """As a trainer does it: the same engine and loop, without Ray."""
    engine = SingleEngine(folder, start, section, derive_seed(seed, "adapter"), "cpu")
    training = Training(engine, section, own, (), seed)
    training.reference = training.scan(own, lambda: None).logprobs
    training.run(lambda log: None, lambda: None, lambda epoch, loss: None, lambda step: None)
    save(engine, to)
    return str(to)


def banked(model: Any, *wanted: BankUpdate) -> Bank:
    return fit(
        model,
        [w.examples for w in wanted],
        [w.recipe for w in wanted],
        [w.seed for w in wanted],
        continued=[w.course for w in wanted],
    )


def products(files: Files) -> dict[str, torch.Tensor]:
    """What the adapter adds to each layer's weights."""
    config, tensors = json.loads(files[ADAPTER_CONFIG]), load(files[ADAPTER])
    scale = config["lora_alpha"] / config["r"]
    return {
        key: scale * tensors[key.replace("lora_A", "lora_B")] @ tensors[key]
        for key in sorted(tensors)
        if "lora_A" in key
    }


def test_a_step_in_the_bank_and_an_update_come_to_the_same_weights(folder: str, model: Any, tmp_path: Path) -> None:
    """From the base and from a version, whatever the neighbours in the bank."""
    files: Files = {}
    start: str | None = None
    for step, first in enumerate((40, 100)):
        own, other = lessons(first), in_bank(lessons(300, 3), replace_section(epochs=5), 9)
        start = updated(folder, start, own, SECTION, step, tmp_path / str(step))
        files = banked(model, other, in_bank(own, SECTION, step, start=files)).files[1]
        theirs, mine = (
            products({name: Path(start, name).read_bytes() for name in (ADAPTER, ADAPTER_CONFIG)}),
            products(files),
        )
        assert theirs.keys() == mine.keys()
        for key, product in theirs.items():
            assert torch.allclose(mine[key], product, atol=1e-4), (step, key)
        assert max(float(p.abs().max()) for p in mine.values()) > 1e-2, "nothing was learned, so nothing was compared"


def test_a_fresh_adapter_on_top_comes_to_what_the_update_calls_fresh(folder: str, model: Any, tmp_path: Path) -> None:
    section = replace_section(fresh=True)
    first = banked(model, in_bank(lessons(40), SECTION, 1)).files[0]
    (tmp_path / "first").mkdir()
    for name, data in first.items():
        (tmp_path / "first" / name).write_bytes(data)
    mine = banked(model, in_bank(lessons(100), SECTION, 2, keeping=Keeping("fresh"), start=first)).files[0]
    theirs = updated(folder, str(tmp_path / "first"), lessons(100), section, 2, tmp_path / "second")
    own = {name: Path(theirs, name).read_bytes() for name in (ADAPTER, ADAPTER_CONFIG)}
    assert json.loads(mine[ADAPTER_CONFIG])["r"] == json.loads(own[ADAPTER_CONFIG])["r"] == 2 * SECTION.rank
    for key, product in products(own).items():
        assert torch.allclose(products(mine)[key], product, atol=1e-4), key


def replace_section(**changes: Any) -> PolicySection:
    return PolicySection(**{**SECTION.model_dump(), **changes})


def after(model: Any, method: str, **options: Any) -> tuple[Bank, Files, Files]:
    """Two steps by a method: the bank of the second, and the files after each."""
    keeping = Keeping(method, **options)
    section = replace_section(epochs=20)
    first = banked(model, in_bank(lessons(40), section, 1, keeping=keeping)).files[0]
    bank = banked(model, in_bank(lessons(100), section, 2, keeping=keeping, start=first))
    assert bank.failures == [None]
    return bank, first, bank.files[0]


def likelihood(model: Any, files: Files, own: Sequence[Lesson]) -> float:
    """Mean log-probability of a token of these texts, with the adapter on."""
    still = replace(in_bank(own, SECTION, 1).course, rates=(0.0,), order=((0,),), start=files)
    update = replace(in_bank(own, SECTION, 1), course=still)
    bank = banked(model, update)
    (scores,) = bank.likelihood([[(x.text.prompt_ids, x.text.ids) for x in own]])
    return sum(s for s, _ in scores) / sum(n for _, n in scores)


def test_without_a_method_what_was_learned_is_lost_and_each_method_keeps_more_of_it(model: Any) -> None:
    kept, learned = {}, {}
    for method in ("none", "fresh", "ewc", "null_space", "slao"):
        _, first, second = after(model, method, strength=30.0)
        kept[method] = likelihood(model, second, lessons(40)) - likelihood(model, first, lessons(40))
        learned[method] = likelihood(model, second, lessons(100)) - likelihood(model, first, lessons(100))
    assert min(learned.values()) > 0.05
    assert all(kept[method] > kept["none"] for method in kept if method != "none")


def test_the_null_space_changes_nothing_on_what_was_seen(model: Any) -> None:
    """All directions of the earlier inputs are taken, so the first texts are as likely as they were."""
    _, first, second = after(model, "null_space", energy=1.0)
    assert likelihood(model, second, lessons(40)) == pytest.approx(likelihood(model, first, lessons(40)), abs=2e-3)


def test_the_penalty_of_ewc_is_the_gradient_of_what_it_says(model: Any) -> None:
    """Against autograd on the whole product of a layer, which the keeper never forms."""
    from seal_ray.inner.continued import Former
    from seal_ray.inner.keep import Ewc, Matrices

    torch.manual_seed(0)
    a_was, b_was, a, b = torch.randn(2, 5), torch.randn(3, 2), torch.randn(2, 5), torch.randn(3, 2)
    out, into = torch.rand(3), torch.rand(5)
    memory = {"fisher_out.x": out, "fisher_in.x": into * out.sum() / into.sum()}
    keeper = Ewc(Keeping("ewc", strength=0.7), Former({"x": (a_was, b_was)}, 2, 1.5, memory), 2, 1.5)
    gradients = Matrices({"x": torch.zeros(2, 5)}, {"x": torch.zeros(3, 2)})
    keeper.graded(Matrices({"x": a}, {"x": b}), gradients)
    fisher = torch.outer(out, memory["fisher_in.x"]) / out.sum()
    a.requires_grad_(True)
    b.requires_grad_(True)
    (0.5 * 0.7 * (fisher * (1.5 * (b @ a - b_was @ a_was)).square()).sum()).backward()
    assert a.grad is not None and torch.allclose(gradients.a["x"], a.grad, atol=1e-5)
    assert b.grad is not None and torch.allclose(gradients.b["x"], b.grad, atol=1e-5)


def test_a_fisher_that_overflows_fails_its_adapter_and_no_other(model: Any) -> None:
    huge = models.load(models.fetch(ModelSection(name="builtin:tiny")), dtype="float32", device="cpu")
    huge.get_output_embeddings().weight.data *= 1e30
    own = in_bank(lessons(40), replace_section(lr=1e-30, clip=0.0), 1, keeping=Keeping("ewc"))
    bank = banked(huge, own, in_bank(lessons(40), replace_section(lr=1e-30), 1))
    failure = bank.failures[0]
    assert failure and failure.kind in {"keep", "nan_loss"} and 0 not in bank.files


@pytest.mark.parametrize("method", sorted(KEEPERS))
def test_every_method_goes_on_from_an_adapter_that_remembers_nothing(model: Any, method: str) -> None:
    """As a version's, which a stream or a study may begin with."""
    files = dict(banked(model, in_bank(lessons(40), SECTION, 1)).files[0])
    assert MEMORY not in files
    bank = banked(model, in_bank(lessons(100), SECTION, 2, keeping=Keeping(method), start=files))
    assert bank.failures == [None]
    if method == "slao":  # what the version has learned is the first step
        old, new, trained = load(files[ADAPTER]), load(bank.files[0][ADAPTER]), load(bank.files[0][MEMORY])
        for key in (k for k in new if ".lora_B." in k):
            own = trained[f"trained.{key.removeprefix(PREFIX).removesuffix('.lora_B.weight')}"]
            assert torch.allclose(new[key], old[key] + (own - old[key]) / math.sqrt(2), atol=1e-6), key


def test_earlier_adapters_are_joined_where_they_are_too_many(model: Any) -> None:
    _, _, whole = after(model, "fresh")
    _, _, joined = after(model, "fresh", most_rank=6)
    assert json.loads(joined[ADAPTER_CONFIG])["r"] == 6 < json.loads(whole[ADAPTER_CONFIG])["r"]


def test_what_is_no_adapter_of_the_model_is_refused(model: Any) -> None:
    files = dict(banked(model, in_bank(lessons(40), SECTION, 1)).files[0])
    wrong = json.loads(files[ADAPTER_CONFIG]) | {"r": 3}
    with pytest.raises(ValueError, match="no layer takes it"):
        banked(model, in_bank(lessons(40), SECTION, 1, start={**files, ADAPTER_CONFIG: json.dumps(wrong).encode()}))
    with pytest.raises(ValueError, match="learning rate for each"):
        banked(model, replace(in_bank(lessons(40), SECTION, 1), course=StudyCourse(((0,),), ())))
    with pytest.raises(ValueError, match="no method of a bank"):
        banked(model, in_bank(lessons(40), SECTION, 1, keeping=Keeping("hope")))
    assert MEMORY not in files


def test_held_to_what_it_expected_before_a_model_keeps_it(model: Any) -> None:
    """The second step with the first one's texts beside its own: to be learned again, or only to be held to."""
    section = replace_section(epochs=20)
    first = banked(model, in_bank(lessons(40), section, 1)).files[0]
    both = [*lessons(100), *lessons(40)]
    held = banked(model, in_bank(both, section, 2, start=first, held=5))
    again = banked(model, in_bank(both, section, 2, start=first))
    alone = banked(model, in_bank(lessons(100), section, 2, start=first))
    assert held.failures == [None] and held.taught[0] > 0 == alone.taught[0]
    first_texts = {name: likelihood(model, b.files[0], lessons(40)) for name, b in (("held", held), ("alone", alone))}
    assert first_texts["held"] > first_texts["alone"] + 0.5
    assert likelihood(model, again.files[0], lessons(40)) > first_texts["held"]
    still = in_bank(lessons(40), replace_section(epochs=1, global_batch=5), 2, start=first, held=5)
    assert banked(model, still).losses[0] == [pytest.approx(0, abs=1e-4)], "it begins as what it is held to"
