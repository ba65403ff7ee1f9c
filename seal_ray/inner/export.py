"""An adapter as PEFT and vLLM load it: safetensors and a configuration, checked against the model's layers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from seal_ray.inner.frozen import Frozen, policy_pair
from seal_ray.records import ADAPTER

PREFIX = "base_model.model."
Factors = tuple[Tensor, Tensor]  # A [rank, in], B [out, rank]


def write_adapter(frozen: Frozen, own: Mapping[str, Factors], rank: int, alpha: float, directory: Path) -> None:
    """Writes the adapter `own` (scale alpha / rank not folded in), joined with the policy's adapter if there is one.

    Joined adapters stand side by side along the rank, each with its scale in B, so that the whole has scale 1.
    """
    policy = policy_adapter(frozen)
    pairs, scale = dict(own), alpha / rank
    if policy:
        pairs, rank = _joined(frozen, policy, own, scale)
        alpha = rank
    tensors = {}
    for name, (a, b) in pairs.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a.detach().to("cpu", frozen.dtype).contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b.detach().to("cpu", frozen.dtype).contiguous()
    directory.mkdir(parents=True, exist_ok=True)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        target_modules=frozen.target_modules(pairs),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        inference_mode=True,
        base_model_name_or_path=getattr(frozen.base, "name_or_path", "") or None,
    )
    config.save_pretrained(str(directory))
    save_file(tensors, str(directory / ADAPTER), metadata={"format": "pt"})
    check_adapter(frozen, directory)


def check_adapter(frozen: Frozen, directory: Path) -> None:
    """Refuses an adapter of which any matrix finds no layer of its shape in the model, or any is not a number."""
    matrices = load_file(str(directory / ADAPTER))
    if not matrices:
        raise ValueError(f"{directory / ADAPTER} holds no matrices")
    config: Any = LoraConfig.from_pretrained(str(directory))
    for key, value in matrices.items():
        name, _, kind = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        layer = frozen.layers.get(name)
        if layer is None:
            raise ValueError(f"{directory / ADAPTER}: {key} matches no layer of the model")
        shape = (config.r, layer.in_features) if kind == "lora_A" else (layer.out_features, config.r)
        if tuple(value.shape) != shape:
            raise ValueError(f"{directory / ADAPTER}: {key} has shape {tuple(value.shape)}; the layer needs {shape}")
        if not value.isfinite().all():
            raise ValueError(f"{directory / ADAPTER}: {key} holds values that are not finite")


def policy_adapter(frozen: Frozen) -> dict[str, Factors]:
    """The adapters that the model carries already, as one pair for each layer with the scale folded into B."""
    if not isinstance(frozen.model, PeftModel):
        return {}
    pairs = {name: policy_pair(layer) for name, layer in frozen.layers.items()}
    return {name: pair for name, pair in pairs.items() if pair is not None}


def _joined(
    frozen: Frozen, policy: Mapping[str, Factors], own: Mapping[str, Factors], scale: float
) -> tuple[dict[str, Factors], int]:
    """Both adapters side by side with scale 1, every layer filled up with zeros to the same rank."""
    joined: dict[str, Factors] = {}
    for name in frozen.layers:
        parts = []
        if name in policy:
            parts.append(policy[name])
        if name in own:
            parts.append((own[name][0], own[name][1] * scale))
        if parts:
            joined[name] = (
                torch.cat([a.float() for a, _ in parts]),
                torch.cat([b.float() for _, b in parts], dim=1),
            )
    rank = max(a.shape[0] for a, _ in joined.values())
    for name, (a, b) in joined.items():
        more = rank - a.shape[0]
        joined[name] = (
            torch.nn.functional.pad(a, (0, 0, 0, more)),
            torch.nn.functional.pad(b, (0, more)),
        )
    return joined, rank
