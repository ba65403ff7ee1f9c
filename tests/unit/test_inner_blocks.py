"""A decoder block is computed in few operations only where these come to what the block itself comes to."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.llama import modeling_llama

from seal_ray.inner import fit
from seal_ray.inner.frozen import Frozen, decoder_layers
from seal_ray.inner.reference import fit_one
from seal_ray.records import Example, Recipe

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


def in_parts(model: Any) -> list[bool]:
    """Of each of a model's blocks, whether it is computed in parts."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
    frozen = Frozen(model.eval())
    with frozen.attached([]):
        return [frozen._blocks[block] is not None for block in decoder_layers(frozen.decoder)]


def neighbours_turned(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Rotary positions of pairs that are neighbours, as other families have them."""

    def turned(x: Tensor) -> Tensor:
        swapped = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        return x * cos.unsqueeze(unsqueeze_dim) + swapped * sin.unsqueeze(unsqueeze_dim)

    return turned(q), turned(k)


@pytest.mark.parametrize(
    "model",
    [
        lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
        lambda: LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True)),
        lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    ],
)
def test_blocks_of_the_usual_build_are_computed_in_parts(model):
    assert in_parts(model()) == [True, True]


def test_blocks_that_only_look_usual_are_computed_as_they_are(monkeypatch):
    assert in_parts(LlamaForCausalLM(LlamaConfig(**SIZES, hidden_act="gelu"))) == [False, False]
    assert in_parts(Qwen3ForCausalLM(Qwen3Config(**SIZES))) == [False, False], "norms of queries and keys"
    one: Any = LlamaForCausalLM(LlamaConfig(**SIZES))
    own = one.model.layers[1].mlp.forward
    one.model.layers[1].mlp.forward = lambda x: own(x) * 1.01
    assert in_parts(one) == [True, False], "one block of its own"
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", neighbours_turned)
    assert in_parts(LlamaForCausalLM(LlamaConfig(**SIZES))) == [False, False], "other pairs are turned"


def test_memory_that_runs_out_is_not_taken_for_a_block_of_its_own_kind():
    def full(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    model: Any = LlamaForCausalLM(LlamaConfig(**SIZES))
    model.model.layers[0].mlp.forward = full
    with pytest.raises(torch.OutOfMemoryError):
        in_parts(model)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_block_of_its_own_kind_is_given_its_arguments_in_the_order_in_which_they_came(checkpointing):
    class Own(torch.nn.Module):
        def forward(self, hidden: Tensor, shift: Tensor, *, scale: float) -> Tensor:
            return scale * hidden - shift

    block, frozen = Own(), Frozen(LlamaForCausalLM(LlamaConfig(**SIZES)), checkpointing=checkpointing)
    frozen._blocks = {block: None}
    hidden, shift = torch.randn(1, 3, 4, requires_grad=True), torch.ones(1, 3, 4)
    assert torch.equal(frozen._block_forward(block)(hidden, shift, scale=2.0), 2 * hidden - shift)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("targets", [("all-linear",), ("down_proj",)])
def test_no_backward_goes_below_the_lowest_adapter(targets, checkpointing):
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**{**SIZES, "num_hidden_layers": 3})).eval()
    asking: list[list[bool]] = [[], [], []]
    for block, own in zip(model.model.layers, asking, strict=True):
        block.register_forward_hook(lambda _, __, out, own=own: own.append(out.requires_grad))
    text = Example(tuple(range(5, 14)), (True,) * 9)
    recipe = Recipe(rank=2, epochs=2, lr=1e-2, targets=targets, last_layers=2)
    bank = fit(model, [[text]], [recipe], [1], checkpointing=checkpointing)
    assert [any(own) for own in asking] == [False, True, True]
    reference = fit_one(model, [text], recipe, 1)
    assert bank.losses[0] == pytest.approx(reference.losses, abs=1e-4)
    reference.close()
