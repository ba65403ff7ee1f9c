"""What an adapter must be for vLLM to serve it, and how it shows that it was applied: read from files, without vLLM."""

import json
from pathlib import Path
from typing import Any

from seal_ray import models
from seal_ray.errors import ConfigError, DataError
from seal_ray.records import ADAPTER, ADAPTER_CONFIG

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM allows as the largest rank of an engine
LARGEST_RANK = LORA_RANKS[-1]
NO_EFFECT = 1e-6  # an adapter whose factors multiply to less than this is not expected to change a probability


def served_rank(rank: int) -> int:
    """The rank that an engine is started with, to serve adapters up to this one."""
    return next((r for r in LORA_RANKS if r >= rank), LARGEST_RANK)


def linear_layers(model_dir: str) -> set[str]:
    """The linear layers inside the model's blocks, by their full names."""
    tensors: dict[str, Any] = {}
    for file in Path(model_dir).glob("*.safetensors"):
        tensors |= models.header_of(file)
    return {
        name.removesuffix(".weight")
        for name, tensor in tensors.items()
        if ".layers." in name and name.endswith(".weight") and len(tensor["shape"]) == 2
    }


def target_modules(layers: set[str]) -> list[str]:
    """The last names of these layers, as vLLM is told which ones adapters may touch.

    Not the head, which no adapter of ours touches: on CPU an adapter's path through it costs time at every token and
    fails where a batch asks for the likelihood of its prompts.
    """
    return sorted({name.rsplit(".", 1)[-1] for name in layers})


def check_fit(folder: str, lora_rank: int, layers: set[str]) -> None:
    """Every module that the adapter names must be one of the base model's, and its rank must fit the engine."""
    rank = models.adapter_rank(folder)
    if lora_rank == 0 or rank > served_rank(lora_rank):
        raise ConfigError(
            f"{folder}: an adapter of rank {rank} in an engine for rank {lora_rank}",
            hint="start the engine with that rank",
        )
    held = models.header_of(Path(folder) / ADAPTER)
    modules = {n.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] for n in held if ".lora_" in n}
    strange = sorted(modules - layers)
    if strange or not modules:
        raise DataError(
            f"{folder}: {len(strange)} of the adapter's {len(modules)} modules are no linear layers of the model's "
            f"blocks{f', the first is {strange[0]}' if strange else ''}",
            hint="use the adapter with the base model that it was trained on",
        )


def probe_ids(model_dir: str, length: int) -> list[int]:
    """A text whose log-probabilities an adapter must move, unless it changes nothing."""
    vocabulary = models.shape(model_dir).vocabulary
    return [(7919 * (n + 1)) % vocabulary for n in range(length)]


def changes_nothing(folder: str) -> bool:
    return _largest_effect(folder) < NO_EFFECT


def _largest_effect(folder: str) -> float:
    """A bound on how much an adapter moves a weight: the largest product of its two factors over all modules."""
    from safetensors import safe_open

    with open(Path(folder) / ADAPTER_CONFIG, encoding="utf-8") as file:
        config = json.load(file)
    scale = float(config.get("lora_alpha") or 1) / max(1, int(config.get("r") or 1))
    largest = 0.0
    with safe_open(Path(folder) / ADAPTER, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 (not a dict)
            if ".lora_B" in name:
                up, down = tensors.get_tensor(name), tensors.get_tensor(name.replace(".lora_B", ".lora_A"))
                largest = max(largest, scale * float(up.abs().max()) * float(down.abs().max()))
    return largest
