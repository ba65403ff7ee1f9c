"""Small random models and texts on which a bank is held to its oracle."""

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from seal_ray.records import Example

VOCABULARY = 101
DEVICE = os.environ.get("SEAL_RAY_TEST_DEVICE", "cpu")  # cuda: the same tests on a GPU
SAME = 0.0 if DEVICE == "cpu" else 1e-5  # how far apart what is computed twice may be: a GPU adds in any order
APART = Path(sys.prefix) / "apart/bitsandbytes"  # where `make` puts it, for tests of quantised bases alone
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}


def needs_bitsandbytes() -> None:
    """Skips the tests of a file, or one, where it is not to be had."""
    if APART.exists() and str(APART) not in sys.path:
        sys.path.append(str(APART))
    pytest.importorskip("bitsandbytes", reason=f"it is not in {APART}; `make apart` puts it there")


def tiny(kind: str) -> Any:
    """A model of two layers with weights large enough that its answers depend on what it reads."""
    torch.manual_seed(11)
    if kind == "qwen2":  # biases on q, k, v and a tied head
        model: Any = Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True))
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.data.normal_(0, 0.1)
    else:
        model = LlamaForCausalLM(LlamaConfig(**SIZES))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(3)
    return model.eval().to(DEVICE)


def texts(seed: int, lengths: Sequence[int]) -> list[Example]:
    """Random texts; every second one carries loss on its later half only."""
    rng = random.Random(seed)
    made = []
    for number, length in enumerate(lengths):
        ids = tuple(rng.randrange(3, VOCABULARY) for _ in range(length - 1))
        mask = tuple(number % 2 == 0 or i >= length // 2 for i in range(length))
        made.append(Example((*ids, 2), mask))
    return made


def greedy(model: Any, prompt: Sequence[int], max_tokens: int) -> list[int]:
    """What the stock generation of transformers answers."""
    out = model.generate(
        input_ids=torch.tensor([list(prompt)], device=model.device),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long, device=model.device),
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=2,
        pad_token_id=2,
    )
    return out[0, len(prompt) :].tolist()


def log_likelihood(model: Any, prompt: Sequence[int], target: Sequence[int]) -> float:
    ids = [*prompt, *target]
    with torch.no_grad():
        logprobs = model(input_ids=torch.tensor([ids], device=model.device)).logits[0].log_softmax(-1)
    return sum(logprobs[i - 1, ids[i]].item() for i in range(len(prompt), len(ids)))
