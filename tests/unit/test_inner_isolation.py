"""A model in whose packed rows texts see each other is refused before anything is trained or asked of it."""

from typing import Any

import pytest
import torch
import transformers

from seal_ray.inner import Sampling, fit
from seal_ray.inner.frozen import Frozen
from seal_ray.records import Example, Recipe

SIZES: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MIXED: dict[str, Any] = {"layer_types": ["linear_attention", "full_attention"], "head_dim": 16}
MIXED |= {f"linear_{what}": 8 for what in ("key_head_dim", "value_head_dim")}
MIXED |= {f"linear_num_{what}_heads": 2 for what in ("key", "value")}
# how each mixes tokens beside transformers' attention
REFUSED: dict[str, dict[str, Any]] = {
    "Lfm2": {"layer_types": ["conv", "full_attention"]},  # a short convolution
    "FalconH1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "head_dim": 12},
    "Bamba": {"mamba_n_heads": 8, "mamba_d_head": 12, "mamba_d_state": 8, "attn_layer_indices": [1]},  # gated norms
    "Qwen3Next": MIXED | {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
    "MiniMax": {},  # linear attention
    "Bloom": {"n_layer": 2, "n_head": 4},  # an attention of its own
    "GPTJ": {"n_embd": 48, "n_layer": 2, "n_head": 4, "rotary_dim": 4},
    "GPTNeo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "XGLM": {"d_model": 48, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64},
}
TAKEN: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen3": {"head_dim": 12},
    "Qwen3Moe": {"head_dim": 12, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "Phi3": {},
    "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 48},
    "GPTNeoX": {},
    "Gemma3Text": {"head_dim": 12, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
}


def made(kind: str, more: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **more})
    model: Any = getattr(transformers, f"{kind.removesuffix('Text')}ForCausalLM")(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # so large that what is read counts
            parameter.data.mul_(3)
    return model.eval().to(dtype)


def example(*ids: int) -> Example:
    return Example(ids, (True,) * len(ids))


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_that_mixes_tokens_in_another_way_is_refused_by_name(kind: str) -> None:
    model = made(kind, REFUSED[kind])
    own = model.config._attn_implementation
    with pytest.raises(ValueError, match=rf"^{kind}.*attention interface.*set model\.name"):
        fit(model, [[example(5, 6, 7)], [example(8, 9)]], [Recipe(rank=2, epochs=1)] * 2, [1, 2])
    assert model.config._attn_implementation == own, "the model is not as it was"
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_it_is_refused_where_it_only_answers() -> None:
    bank = fit(made("Lfm2", REFUSED["Lfm2"]), [[]], [None], [1])
    with pytest.raises(ValueError, match="see its neighbours"):
        bank.answer([[(5, 6, 7)]], Sampling(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", TAKEN)
def test_a_model_that_mixes_them_in_attention_alone_is_taken(kind: str, dtype: torch.dtype) -> None:
    frozen = Frozen(made(kind, TAKEN[kind], dtype))
    with frozen.attached([]):
        assert frozen._pass is None, "something is left of the trial"


@pytest.mark.parametrize("kind", ["Lfm2", "MiniMax", "GPTNeo"])
def test_in_16_bits_it_is_refused_as_well(kind: str) -> None:
    with (
        pytest.raises(ValueError, match="see its neighbours"),
        Frozen(made(kind, REFUSED[kind], torch.bfloat16)).attached([]),
    ):
        pass


def test_a_model_is_tried_once_and_no_random_number_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    real = Frozen.hidden
    monkeypatch.setattr(Frozen, "hidden", lambda *a, **k: rows.append(len(a[1])) or real(*a, **k))
    frozen, usual = Frozen(made("Qwen3", TAKEN["Qwen3"])), Frozen(made("Llama", {}))
    before = torch.get_rng_state()
    for _ in range(3):
        with frozen.attached([]):
            pass
    assert rows == [8, 8] and torch.equal(torch.get_rng_state(), before)
    with usual.attached([]):
        assert rows == [8, 8], "what is computed in parts mixes rows in the bank's attention alone"


def test_memory_that_runs_out_says_nothing_about_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    frozen = Frozen(made("Qwen3", TAKEN["Qwen3"]))
    monkeypatch.setattr(frozen.decoder, "forward", full)
    with pytest.raises(torch.OutOfMemoryError), frozen.attached([]):
        pass


@pytest.mark.parametrize("name", ["final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap"])
def test_logits_that_are_changed_after_the_head_are_refused_where_a_wrapper_keeps_the_setting(name: str) -> None:
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = SIZES | {"head_dim": 12} | {name: 30.0}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision | {"image_size": 28, "patch_size": 14})
    model = transformers.Gemma3ForConditionalGeneration(config)
    assert getattr(model.config, name, None) is None
    with pytest.raises(ValueError, match=name):
        Frozen(model)
