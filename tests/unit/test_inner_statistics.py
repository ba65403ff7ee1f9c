"""What a method that looks at layers' inputs keeps of them."""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from seal_ray.inner.frozen import Frozen
from seal_ray.inner.layer_statistics import observe
from seal_ray.inner.training_text import TrainingText

WIDTH, GATED = 32, 48


def test_inputs_are_kept_once_for_the_layers_that_share_them_and_as_the_model_has_them() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": GATED, "num_hidden_layers": 1, "num_attention_heads": 4}
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes))  # type: ignore[arg-type]
    frozen = Frozen(model.to(torch.bfloat16))
    layers = [name for name in frozen.layers if name != frozen.head_name]
    given: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    for name in layers:
        frozen.layers[name].register_forward_pre_hook(lambda _, args, name=name: given[name].append(args[0][0].float()))
    texts = [TrainingText(tuple(range(3, 3 + n)), range(1, n)) for n in (9, 5)]
    with frozen.attached([]):
        for own in given.values():
            own.clear()  # of the trial
        seen = observe(frozen, {}, layers, texts, False)
    rows = {row.data_ptr(): row for statistics in seen.values() for row in statistics.rows}
    assert sum(row.nbytes for row in rows.values()) == 2 * (9 + 5) * (3 * WIDTH + GATED), "q, k, v; o; gate, up; down"
    for name in layers:
        assert seen[name].inputs.dtype == torch.float32 and torch.equal(seen[name].inputs, torch.cat(given[name])), name
