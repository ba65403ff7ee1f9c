"""The model that learns, behind one forward: packed texts in, log-probabilities of their completions out.

Texts in one row do not see each other: their positions start again at 0, and transformers keeps them apart as long as
it is given no attention mask and no cache.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seal_ray import models
from seal_ray.config import PolicySection
from seal_ray.errors import ConfigError
from seal_ray.inner.recipe import first_a
from seal_ray.policy.lessons import LessonText
from seal_ray.sampling.adapters import LARGEST_RANK

CHUNK = 1024  # rows of logits that are turned into probabilities at once


@dataclass(frozen=True)
class PackedRow:
    """Some texts, one after the other, and which of the row's positions predict a completion token."""

    ids: Tensor  # [1, T]
    positions: Tensor  # [1, T]
    keep: Tensor  # [N] positions whose logits are needed
    targets: Tensor  # [N]
    lengths: tuple[int, ...]  # completion tokens of each text


def pack(texts: Sequence[LessonText], device: torch.device | str = "cpu") -> PackedRow:
    """A row of these texts. Without any, one token that nothing is learned from."""
    ids: list[int] = []
    positions: list[int] = []
    keep: list[int] = []
    targets: list[int] = []
    for text in texts:
        start = len(ids) + len(text.prompt_ids) - 1
        ids += text.prompt_ids + text.ids
        positions += range(text.tokens)
        keep += range(start, start + len(text.ids))
        targets += text.ids
    if not texts:
        ids, positions, keep, targets = [0, 0], [0, 1], [0], [0]

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return PackedRow(
        tensor(ids)[None], tensor(positions)[None], tensor(keep), tensor(targets), tuple(len(t.ids) for t in texts)
    )


class Learner(nn.Module):
    """A causal language model that answers with log-probabilities and entropies of the wanted tokens."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, positions: Tensor, keep: Tensor, targets: Tensor | None) -> Any:
        """Log-probability and entropy at each kept position; without targets the logits there."""
        out = self.model(
            input_ids=ids, position_ids=positions, attention_mask=None, use_cache=False, logits_to_keep=keep
        )
        return out.logits[0] if targets is None else token_scores(out.logits[0], targets)


def token_scores(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each distribution, in float32, a chunk of rows at a time."""
    scores, entropies = [], []
    for rows, wanted in zip(logits.split(CHUNK), targets.split(CHUNK), strict=True):
        score, entropy = checkpoint(_scores, rows, wanted, use_reentrant=False)  # type: ignore[misc]
        scores.append(score)
        entropies.append(entropy)
    return torch.cat(scores), torch.cat(entropies)


def _scores(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logprobs = logits.float().log_softmax(-1)
    with torch.no_grad():
        entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(-1, targets[:, None])[:, 0], entropy


def divergence(now: Tensor, before: Tensor) -> Tensor:
    """Nats by which each distribution of `now` has left that of `before`, summed over rows."""
    total = torch.zeros((), device=now.device)
    for a, b in zip(now.split(CHUNK), before.split(CHUNK), strict=True):
        p, q = a.float().log_softmax(-1), b.float().log_softmax(-1)
        total += (p.exp() * (p - q)).sum()
    return total


# the model itself


def build(
    base: str, start: str | None, section: PolicySection, seed: int, dtype: str, device: str, *, trust: bool = False
) -> Any:
    """The model as it starts: an adapter to train on, a fresh one, or all its weights to be trained.

    `start` is the folder of the version that is trained on from; None is the base. `trust`: code that comes with the
    model may run.
    """
    if section.mode == "full":
        if start is not None and not (Path(start) / "config.json").exists():
            raise ConfigError(
                "policy.mode: full can't go on from a version that is an adapter",
                hint="use mode: lora, or export the version merged and name it as the model",
            )
        model = _without_dropout(models.load(start or base, dtype=dtype, device=device, trust_remote_code=trust))
        model.requires_grad_(True)
        return model
    loaded = models.load(base, dtype=dtype, device=device, adapter=start, trust_remote_code=trust)
    model = _without_dropout(loaded)
    learns = "default"
    if start is None or section.fresh:
        # the adapter that is there stays on, frozen: the same as merging it, and exact under ZeRO 3 too
        seed_everything(seed)
        learns = "default" if start is None else "fresh"
        model = _with_fresh(model, section, base, learns)
        _first_weights(model, learns, seed)
    for name, weight in model.named_parameters():
        weight.requires_grad_(f".{learns}." in name)
    return model


@torch.no_grad()
def _first_weights(model: Any, adapter: str, seed: int) -> None:
    """What a bank's adapter begins with too, so that both come to the same: as random as PEFT's, but by layer."""
    for name, weight in model.named_parameters():
        layer, mark, _ = name.partition(f".lora_A.{adapter}.")
        if mark:
            rank, width = weight.shape
            weight.copy_(first_a(layer.removeprefix("base_model.model."), rank, width, seed, weight.device))


def _without_dropout(model: Any) -> Any:
    """Chance in the forward would make the result depend on how rows fell to workers."""
    module: Any
    for module in model.modules():
        for name in ("p", "attention_dropout") if isinstance(module, nn.Dropout) else ("attention_dropout",):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def _with_fresh(model: Any, section: PolicySection, base: str, name: str) -> Any:
    from peft import LoraConfig, PeftModel, get_peft_model

    targets: Any = "all-linear" if section.targets == ("all-linear",) else list(section.targets)
    config = LoraConfig(
        r=section.rank,
        lora_alpha=section.alpha,  # type: ignore[arg-type]
        lora_dropout=0.0,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        if not isinstance(model, PeftModel):
            return get_peft_model(model, config)
        there: Any = model.peft_config["default"]
        if there.r + section.rank > LARGEST_RANK:
            raise ConfigError(
                f"policy.fresh: a new adapter of rank {section.rank} on top of rank {there.r} is more than "
                f"{LARGEST_RANK}",
                hint="export the version merged and begin a new run with it as the model, or set fresh: false",
            )
        config.target_modules = there.target_modules
        model.add_adapter(name, config)
        base_model: Any = model.base_model
        base_model.set_adapter(["default", name])
        return model
    except ValueError as error:
        raise ConfigError(
            f"policy.targets: {', '.join(section.targets)} fits no layer of {base}: {error}",
            hint="use all-linear, or names of its linear layers such as q_proj",
        ) from error


@contextmanager
def without_adapter(model: Any, wanted: bool = True) -> Iterator[None]:
    """The model as its base answers, if that is wanted."""
    if not wanted:
        yield
        return
    trained = [weight for _, weight in trainable(model)]
    with model.disable_adapter():
        yield
    model.requires_grad_(False)  # PEFT wakes every adapter when it switches them on
    for weight in trained:
        weight.requires_grad_(True)


def adapter_rank(model: Any) -> int:
    """The rank of all that a model carries: of the adapter that stayed and of the fresh one beside it."""
    return sum(int(config.r) for config in model.peft_config.values())


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(n, p) for n, p in model.named_parameters() if p.requires_grad]


def adapter_files(model: Any, whole: Callable[[nn.Parameter], Tensor]) -> tuple[dict[str, Tensor], bytes]:
    """The tensors and the configuration of what was learned, as one adapter in PEFT's format.

    An adapter that was there and stayed, and the fresh one beside it, become one of both ranks together. `whole` puts a
    parameter together from its shards; workers call it in the same order.
    """
    config = model.peft_config["default"].to_dict()
    scale = _scale(model.peft_config["default"])
    by_adapter: dict[str, dict[str, Tensor]] = {"default": {}, "fresh": {}}
    for name, weight in model.named_parameters():
        for adapter, tensors in by_adapter.items():
            if "lora_" in name and f".{adapter}." in name:
                tensors[name.replace(f".{adapter}.", ".")] = whole(weight)
    old, new = by_adapter["default"], by_adapter["fresh"]
    if new:
        fresh = model.peft_config["fresh"]
        for name in old:
            if "lora_B" in name:
                new[name] = new[name] * (_scale(fresh) / scale)
            old[name] = torch.cat([old[name], new[name]], dim=1 if "lora_B" in name else 0)
        config["r"] += fresh.r
        config["lora_alpha"] = scale * config["r"]
    # a path that only this node has is of no use to anyone else
    config |= {"inference_mode": True, "base_model_name_or_path": ""}
    plain = {k: sorted(v) if isinstance(v, (set, frozenset)) else v for k, v in config.items()}
    text = json.dumps(plain, indent=1, sort_keys=True, default=lambda v: getattr(v, "value", None) or str(v))
    return {n: t.contiguous() for n, t in old.items()}, text.encode()


def _scale(config: Any) -> float:
    return config.lora_alpha / config.r
