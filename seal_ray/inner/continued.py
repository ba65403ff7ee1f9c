"""An adapter that is trained on: read from the files that it was, written to the files that it becomes.

The files are PEFT's two, in float32 whatever the model computes in, so that many short studies lose nothing to
rounding; beside them, what the method that keeps it remembers from step to step.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from seal_ray.inner.export import PREFIX, Factors
from seal_ray.records import ADAPTER, ADAPTER_CONFIG

MEMORY = "memory.safetensors"


@dataclass
class Former:
    """What an adapter was before this step. An adapter that is new has no layers."""

    pairs: dict[str, Factors] = field(default_factory=dict)  # by layer, A [rank, in] and B [out, rank]
    rank: int = 0
    scale: float = 1.0  # what the product is multiplied by
    memory: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def read(files: Mapping[str, bytes], layers: Mapping[str, Any]) -> "Former":
        """Raises ValueError for files that are no adapter of this model."""
        if not files:
            return Former()
        config = json.loads(files[ADAPTER_CONFIG])
        rank, tensors = int(config["r"]), load(files[ADAPTER])
        pairs: dict[str, Factors] = {}
        for key in tensors:
            name, _, kind = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
            if kind != "lora_A":
                continue
            a, b = tensors[key].float(), tensors[key.replace(".lora_A.", ".lora_B.")].float()
            layer = layers.get(name)
            if layer is None and not b.any():  # PEFT's all-linear has one on each layer of a vision tower too
                continue
            if layer is None or a.shape != (rank, layer.in_features) or b.shape != (layer.out_features, rank):
                raise ValueError(f"the adapter to train on from has {key} {tuple(a.shape)}, and no layer takes it")
            pairs[name] = (a, b)
        if not pairs:
            raise ValueError("the adapter to train on from holds no matrices")
        memory = load(files[MEMORY]) if MEMORY in files else {}
        return Former(pairs, rank, config["lora_alpha"] / rank, memory)

    def on(self, device: torch.device) -> "Former":
        """The same, where the bank is."""
        pairs = {name: (a.to(device), b.to(device)) for name, (a, b) in self.pairs.items()}
        return Former(pairs, self.rank, self.scale, {name: value.to(device) for name, value in self.memory.items()})

    def joined(self, most: int) -> "Former":
        """The same product in at most `most` ranks: what is left out is what changes the least."""
        if self.rank <= most:
            return self
        return Former({n: nearest(a, b, most) for n, (a, b) in self.pairs.items()}, most, self.scale, self.memory)


def nearest(a: Tensor, b: Tensor, rank: int) -> Factors:
    """The factors of this rank whose product is the nearest one, without ever forming it whole.

    A narrow layer's product has fewer ranks than that: the rest are zeros.
    """
    q_out, r_out = torch.linalg.qr(b)
    q_in, r_in = torch.linalg.qr(a.mT)
    u, s, v = torch.linalg.svd(r_out @ r_in.mT)
    kept = min(rank, len(s))
    root = s[:kept].sqrt()
    near_a, near_b = root[:, None] * (v[:kept] @ q_in.mT), (q_out @ u[:, :kept]) * root
    return F.pad(near_a, (0, 0, 0, rank - kept)), F.pad(near_b, (0, rank - kept))


def files_of(
    own: Mapping[str, Factors], rank: int, scale: float, targets: Sequence[str], memory: Mapping[str, Tensor]
) -> dict[str, bytes]:
    """The adapter as files: the same bytes for the same weights."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "",
        "r": rank,
        "lora_alpha": scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [*targets],
        "inference_mode": True,
    }
    tensors = {}
    for name, (a, b) in own.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a.float().cpu().contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b.float().cpu().contiguous()
    files = {
        ADAPTER: save(tensors, {"format": "pt"}),
        ADAPTER_CONFIG: json.dumps(config, indent=1, sort_keys=True).encode(),
    }
    if memory:
        files[MEMORY] = save({name: value.float().cpu().contiguous() for name, value in memory.items()})
    return files
