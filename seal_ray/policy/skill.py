"""A skill: what one version's adapter has beyond another's, added to a third with a weight.

A version that learned by reward and one that learned plain texts differ by what the reward taught. That difference,
added after a new passage was learned, is published to help to use it. Low-rank adapters add up exactly: they stand side
by side along the rank, each with its scale in B.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seal_ray.errors import DataError
from seal_ray.policy.export import PREFIX, adapter_config
from seal_ray.records import ADAPTER, ADAPTER_CONFIG

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WeightedAdapter:
    """An adapter's folder, and how much of it there is to be."""

    folder: str
    weight: float = 1.0


def skill(learned: str, plain: str | None, weight: float) -> list[WeightedAdapter]:
    """`weight` times what `learned` has beyond `plain`, or beyond the base where there is none."""
    return [WeightedAdapter(learned, weight), *([WeightedAdapter(plain, -weight)] if plain else [])]


def summed(adapters: Sequence[WeightedAdapter], to: str) -> None:
    """Writes one adapter into the folder `to` that changes the base by the sum of what these do."""
    import torch
    from safetensors.torch import load_file, save_file

    factors: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for adapter in adapters:
        config = adapter_config(adapter.folder)
        if config.get("fan_in_fan_out"):
            raise DataError(f"{adapter.folder}: its weights are transposed", hint="only plain linear layers add up")
        scale = adapter.weight * config["lora_alpha"] / config["r"] ** (0.5 if config.get("use_rslora") else 1)
        weights = load_file(Path(adapter.folder) / ADAPTER)
        for name in sorted(n for n in weights if n.endswith(".lora_A.weight")):
            module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
            up = weights[name.replace(".lora_A.", ".lora_B.")]
            own = factors.setdefault(module, [])
            if own and (own[0][0].shape[1], own[0][1].shape[0]) != (weights[name].shape[1], up.shape[0]):
                raise DataError(
                    f"{adapter.folder}: {module} has another shape than in the others",
                    hint="a skill can only be added to a version of the base model that it comes from",
                )
            own.append((weights[name].float(), up.float() * scale))
    rank = max(sum(a.shape[0] for a, _ in own) for own in factors.values())
    tensors = {}
    for module, own in factors.items():
        a, b = torch.cat([a for a, _ in own]), torch.cat([b for _, b in own], dim=1)
        missing = rank - a.shape[0]
        tensors[f"{PREFIX}{module}.lora_A.weight"] = torch.nn.functional.pad(a, (0, 0, 0, missing)).contiguous()
        tensors[f"{PREFIX}{module}.lora_B.weight"] = torch.nn.functional.pad(b, (0, missing)).contiguous()
    plain: dict[str, Any] = adapter_config(adapters[0].folder)
    plain |= {"r": rank, "lora_alpha": rank, "use_rslora": False, "target_modules": sorted(factors)}
    save_file(tensors, Path(to) / ADAPTER, metadata={"format": "pt"})
    (Path(to) / ADAPTER_CONFIG).write_text(json.dumps(plain, indent=2, sort_keys=True), encoding="utf-8")
