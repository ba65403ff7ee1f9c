"""Small adapters for the tiny model, written by hand in PEFT's format."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

SIDES = {"q_proj": (64, 128), "v_proj": (64, 64), "o_proj": (128, 64)}


def write_adapter(folder: Path, seed: int, *, strength: float = 0.3, rank: int = 4, block: str = "self_attn") -> str:
    """An adapter of both layers; with a strength of 0 it changes nothing."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for layer in range(2):
        for name, (width, out) in SIDES.items():
            at = f"base_model.model.model.layers.{layer}.{block}.{name}"
            tensors[f"{at}.lora_A.weight"] = random.standard_normal((rank, width)).astype(np.float32) * 0.2
            tensors[f"{at}.lora_B.weight"] = random.standard_normal((out, rank)).astype(np.float32) * strength
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(SIDES),
        "base_model_name_or_path": "builtin:tiny",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return str(folder)
