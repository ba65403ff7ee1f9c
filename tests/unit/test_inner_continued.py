"""Earlier adapters joined into fewer ranks, where layers are narrower than these."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from seal_ray.inner import fit
from seal_ray.inner.continued import Former, nearest
from seal_ray.records import Example, Keeping, Recipe, StudyCourse

NARROW = 24  # what key and value put out: two heads of 12
RECIPE = Recipe(rank=14, alpha=28, lr=1e-3)


@pytest.mark.parametrize("rank", [8, 26])
def test_the_nearest_factors_have_the_rank_that_is_asked_for_in_layers_of_any_width(rank: int) -> None:
    torch.manual_seed(0)
    for width in (NARROW, 48):
        a, b = torch.randn(28, 48), torch.randn(width, 28)
        near_a, near_b = nearest(a, b, rank)
        assert near_a.shape == (rank, 48) and near_b.shape == (width, rank)
        values = torch.linalg.svdvals(b @ a)
        left_out = float(torch.linalg.matrix_norm(b @ a - near_b @ near_a))
        assert left_out == pytest.approx(float(values[rank:].norm()), abs=1e-3), "another one of this rank is nearer"


@pytest.mark.parametrize("method", ["fresh", "null_space"])
def test_a_stream_joins_its_adapters_on_layers_that_are_narrower_than_their_rank(method: str) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=101, num_hidden_layers=1, **sizes)).eval()  # type: ignore[arg-type]
    keeping, files = Keeping(method, most_rank=40), {}
    for step in range(3):
        text = Example(tuple(range(5 + 9 * step, 14 + 9 * step)), (True,) * 9)
        course = StudyCourse(order=((0,),), rates=(1e-3,), start=files, keeping=keeping)
        bank = fit(model, [[text]], [RECIPE], [step], continued=[course])
        assert bank.failures == [None]
        files = bank.files[0]
    former = Former.read(files, dict(model.named_modules()))
    assert former.rank == 40 and former.pairs["model.layers.0.self_attn.k_proj"][1].shape == (NARROW, 40)
