"""What a recipe means, said once for the bank and its oracle: layers, first weights, order of texts, learning rate."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from seal_ray.records import Example, Failure, MomentKind, Recipe, derive_seed

MAX_RANK = 512
BLOCK = re.compile(r"(?:^|\.)(\d+)\.")  # the number of its block in a layer's name


def check_recipe(recipe: Recipe, layers: Mapping[str, Any], head: str | None) -> list[str]:
    """The names of the layers that get an adapter. Raises ValueError for what no candidate could be trained with."""
    if not 1 <= recipe.rank <= MAX_RANK:
        raise ValueError(f"rank {recipe.rank} is not a rank; use 1 to {MAX_RANK}")
    for name in ("epochs", "batch_size", "accumulation"):
        if getattr(recipe, name) < 1:
            raise ValueError(f"{name} {getattr(recipe, name)} trains nothing; use 1 or more")
    if not (math.isfinite(recipe.lr) and recipe.lr > 0):
        raise ValueError(f"learning rate {recipe.lr} trains nothing; use a number above 0")
    if recipe.schedule not in ("linear", "cosine", "constant"):
        raise ValueError(f"schedule {recipe.schedule!r} is unknown; use linear, cosine or constant")
    if recipe.moments not in get_args(MomentKind):
        raise ValueError(f"moments in {recipe.moments!r} are unknown; use {', '.join(get_args(MomentKind))}")
    if not (math.isfinite(recipe.distill_temperature) and recipe.distill_temperature > 0):
        raise ValueError(f"distillation at temperature {recipe.distill_temperature}; use a number above 0")
    if not 0 <= recipe.dropout < 1:
        raise ValueError(f"dropout {recipe.dropout} leaves nothing or is none; use 0 or more, and less than 1")
    if recipe.answer_tokens < 1:
        raise ValueError(f"answers of {recipe.answer_tokens} tokens teach nothing; use 1 or more")
    if recipe.pad_to and recipe.objective.startswith("distill"):
        raise ValueError("a teacher says nothing about padding; leave pad_to out with an objective that distils")
    names: set[str] = set()
    for target in recipe.targets:
        if target == "all-linear":
            meant = [n for n in layers if n != head]
        else:
            meant = [n for n in layers if n == target or n.endswith("." + target)]
        if not meant:
            known = sorted({n.rsplit(".", 1)[-1] for n in layers})
            raise ValueError(f"target {target!r} is no linear layer of this model; it has {', '.join(known)}")
        names.update(meant)
    chosen = [n for n in layers if n in names and n in _last(layers, recipe.last_layers)]
    if not chosen:
        raise ValueError(f"targets {', '.join(recipe.targets)} are not in the last {recipe.last_layers} blocks")
    for name in chosen:
        width = layers[name].in_features
        if recipe.rank > width:
            raise ValueError(f"rank {recipe.rank} is over the width {width} of layer {name}; use {width} or less")
    return chosen


def _last(layers: Mapping[str, Any], count: int) -> set[str]:
    """The layers of the last `count` blocks, and those outside of any; all where it is 0."""
    blocks = {n: int(m.group(1)) for n in layers if (m := BLOCK.search(n))}
    first = max(blocks.values(), default=-1) + 1 - count
    if first < 0 or count < 0:
        raise ValueError(f"last_layers {count} is none of this model's {first + count} blocks; use fewer, or 0 for all")
    return {n for n in layers if not count or blocks.get(n, first) >= first}


def check_examples(examples: Sequence[Example], recipe: Recipe, *, context: int, vocabulary: int) -> Failure | None:
    """Why these texts can't be trained on, if so."""
    if not examples:
        return Failure("no_text", "there is no text to train on")
    limit = min(context, recipe.max_length)
    if recipe.pad_to > context:
        return Failure("too_long", f"texts padded to {recipe.pad_to} tokens are over the model's context of {context}")
    for number, example in enumerate(examples, 1):
        if len(example.ids) > limit:
            return Failure(
                "too_long", f"text {number} has {len(example.ids)} tokens; at most {limit} can be trained on"
            )
        if not any(example.mask[1:]):
            return Failure("no_text", f"text {number} has no token that carries loss")
        if min(all_ids := (*example.ids, *example.teacher)) < 0 or max(all_ids) >= vocabulary:
            return Failure("bad_token", f"text {number} has a token id outside the vocabulary of {vocabulary}")
        if example.teacher and (failure := _check_teacher(example, number, recipe, limit)):
            return failure
    return None


def _check_teacher(example: Example, number: int, recipe: Recipe, limit: int) -> Failure | None:
    asked, answer = example.first, len(example.ids) - example.first
    if writes(recipe, example):
        answer = recipe.answer_tokens
    if asked + answer > limit:
        return Failure(
            "too_long", f"text {number} has up to {asked + answer} tokens; at most {limit} can be trained on"
        )
    if (read := len(example.teacher) + answer) > limit:
        message = (
            f"the teacher of text {number} reads up to {read} tokens, its context and the text; it can read {limit}"
        )
        return Failure("teacher_too_long", message)
    return None


def writes(recipe: Recipe, example: Example) -> bool:
    """Whether the student answers for itself, and is taught at its own answer."""
    return recipe.objective == "distill_on_policy" and bool(example.teacher)


def padded(examples: Sequence[Example], recipe: Recipe, pad_id: int) -> list[Example]:
    """The examples as they are trained on: with `pad_to`, filled up with labelled padding as the paper's code does."""
    more = [max(0, recipe.pad_to - len(e.ids)) for e in examples]
    return [
        Example(tuple(e.ids) + (pad_id,) * m, tuple(e.mask) + (True,) * m, e.teacher) if m else e
        for e, m in zip(examples, more, strict=True)
    ]


def windows(count: int, recipe: Recipe, seed: int) -> list[list[list[int]]]:
    """For each optimiser step its micro-batches, as numbers of texts. An epoch's last step may be short."""
    steps = []
    for epoch in range(recipe.epochs):
        texts = list(range(count))
        if recipe.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
            texts = torch.randperm(count, generator=generator).tolist()
        batches = [texts[i : i + recipe.batch_size] for i in range(0, count, recipe.batch_size)]
        steps += [batches[i : i + recipe.accumulation] for i in range(0, len(batches), recipe.accumulation)]
    return steps


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step, counted from 0."""
    if step < recipe.warmup:
        return recipe.lr * step / max(1, recipe.warmup)
    done = (step - recipe.warmup) / max(1, steps - recipe.warmup)
    if recipe.schedule == "linear":
        return recipe.lr * max(0.0, 1 - done)
    if recipe.schedule == "cosine":
        return recipe.lr * max(0.0, 0.5 * (1 + math.cos(math.pi * done)))
    return recipe.lr


def writing_seed(seed: int, epoch: int) -> int:
    """What the answers that an adapter writes before an epoch of its training are drawn with."""
    return derive_seed(seed, "writing", epoch)


def first_a(layer: str, rank: int, width: int, seed: int, device: torch.device) -> Tensor:
    """The A matrix an adapter starts with (B starts at zero): it depends on seed and layer, on no neighbour."""
    generator = torch.Generator(device).manual_seed(derive_seed(seed, "lora_A", layer))
    bound = 1 / math.sqrt(width)
    return torch.empty(rank, width, device=device).uniform_(-bound, bound, generator=generator)
