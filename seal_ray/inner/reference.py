"""The oracle: one candidate trained alone with PEFT and torch's AdamW, unpadded, as plainly as can be.

It shares with the bank what a recipe means (first weights, order of texts, learning rates) and nothing of how it is
computed. Tests hold the bank to it, and the benchmark's `peft` arm is timed with it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F

from seal_ray.inner.answer import Sampling, draws
from seal_ray.inner.distill import TOP
from seal_ray.inner.dropout import kept, text_key
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.recipe import (
    check_examples,
    check_recipe,
    first_a,
    learning_rate,
    padded,
    windows,
    writes,
    writing_seed,
)
from seal_ray.records import Example, Recipe

NAME = "candidate"


@dataclass
class Reference:
    """A model with one trained adapter on it. Close it to have the model back as it was."""

    model: Any  # the PeftModel, with the candidate's adapter (and the policy's, if any) active
    losses: list[float] = field(default_factory=list)
    policy: list[str] | None = None  # the adapters that were active before

    @contextmanager
    def off(self) -> Iterator[None]:
        """The model without the candidate's adapter, and with the policy's."""
        layers = [m for m in self.model.modules() if isinstance(m, LoraLayer) and NAME in m.scaling]
        scales = [layer.scaling[NAME] for layer in layers]
        for layer in layers:
            layer.scaling[NAME] = 0.0
        yield
        for layer, scale in zip(layers, scales, strict=True):
            layer.scaling[NAME] = scale

    def close(self) -> None:
        if self.policy is None:
            self.model.unload()
        else:
            self.model.base_model.set_adapter(self.policy)
            self.model.delete_adapter(NAME)


def put_adapter(model: Any, recipe: Recipe, seed: int) -> Reference:
    """Puts a new adapter with its first weights on the model; a policy's adapter stays active and is frozen."""
    frozen = Frozen(model)
    targets = check_recipe(recipe, frozen.layers, frozen.head_name)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,  # type: ignore[arg-type]
        target_modules=targets,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    policy = None
    if isinstance(model, PeftModel):
        policy = list(model.active_adapters)
        model.add_adapter(NAME, config)
        tuner: Any = model.base_model
        tuner.set_adapter([*policy, NAME])
        peft = model
    else:
        peft = get_peft_model(model, config, adapter_name=NAME)
    for name, parameter in peft.named_parameters():
        parameter.requires_grad_(f".{NAME}." in name)
    layers: dict[str, Any] = dict(peft.get_base_model().named_modules())
    with torch.no_grad():
        for name in targets:
            layer = layers[name]
            a = layer.lora_A[NAME].weight
            a.copy_(first_a(name, recipe.rank, a.shape[1], seed, a.device))
            layer.lora_B[NAME].weight.zero_()
    return Reference(peft, policy=policy)


def fit_one(model: nn.Module, examples: Sequence[Example], recipe: Recipe, seed: int) -> Reference:
    """Trains one adapter on the model, which carries it until the result is closed. Raises ValueError for bad input."""
    frozen = Frozen(model)
    check_recipe(recipe, frozen.layers, frozen.head_name)
    failure = check_examples(examples, recipe, context=frozen.context, vocabulary=frozen.vocabulary)
    if failure is not None:
        raise ValueError(failure.message)
    result = put_adapter(model, recipe, seed)
    peft, device = result.model, frozen.device
    peft.eval()
    texts = padded(examples, recipe, frozen.pad_id)
    parameters = [p for p in peft.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, weight_decay=recipe.weight_decay, fused=True
    )
    steps = windows(len(texts), recipe, seed)
    dropped = _drop_inputs(peft, recipe)
    given = list(texts)
    expected = {t: _expected(result, e, recipe) for t, e in enumerate(given) if e.teacher and not writes(recipe, e)}
    for step, batches in enumerate(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step, len(steps))
        if step * recipe.epochs % len(steps) == 0:
            asked = [t for t, e in enumerate(given) if writes(recipe, e)]
            for number, t in enumerate(asked):
                draw = draws(writing_seed(seed, step * recipe.epochs // len(steps)), number, 0, _speech(recipe))
                texts[t] = _answered(result, given[t], draw, frozen.end_ids)
            expected |= {t: _expected(result, texts[t], recipe) for t in asked}
        # the stock trainer's mean: over the labelled tokens of all micro-batches of the step
        count = sum(sum(texts[t].mask[1:]) for batch in batches for t in batch)
        total = 0.0
        for batch in batches:
            ids, labels, seen = _batch([texts[t] for t in batch], device)
            firsts = torch.tensor([text_key(seed, step, t) for t in batch], device=device)
            dropped["rows"] = firsts[:, None] + torch.arange(ids.shape[1], device=device)
            logits = peft(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, :-1].float()
            losses = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="none").view(
                len(batch), -1
            )
            each = [
                _divergence(logits[row], texts[t], expected[t], recipe) if t in expected else losses[row].sum()
                for row, t in enumerate(batch)
            ]
            loss = torch.stack(each).sum() / count
            loss.backward()
            dropped.clear()
            total += loss.item()
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
        optimiser.step()
        optimiser.zero_grad()
        result.losses.append(total)
    return result


class _Dropped(nn.Module):
    """Dropout of one layer, drawn for the rows that are trained on just now."""

    def __init__(self, layer: str, rate: float, rows: dict[str, Tensor]) -> None:
        super().__init__()
        self.layer, self.rate, self.rows = layer, rate, rows

    def forward(self, x: Tensor) -> Tensor:
        if "rows" not in self.rows:
            return x
        keys = self.rows["rows"].flatten()
        rates = torch.full(keys.shape, self.rate, device=keys.device)
        return x * kept(keys, rates, self.layer, x.shape[-1]).view(x.shape).to(x.dtype)


def _drop_inputs(peft: Any, recipe: Recipe) -> dict[str, Tensor]:
    """Puts dropout on the candidate's adapter; what is given back says whose rows are trained on."""
    rows: dict[str, Tensor] = {}
    for name, layer in peft.get_base_model().named_modules() if recipe.dropout else ():
        if isinstance(layer, LoraLayer) and NAME in layer.lora_dropout:
            layer.lora_dropout[NAME] = _Dropped(name, recipe.dropout, rows)
    return rows


def _speech(recipe: Recipe) -> Sampling:
    return Sampling(recipe.answer_tokens, temperature=1.0)


@torch.no_grad()
def _expected(result: Reference, example: Example, recipe: Recipe) -> Tensor:
    """The teacher's whole distribution at each labelled token, at the recipe's temperature."""
    first, before = example.first, len(example.teacher)
    ids = torch.tensor([[*example.teacher, *example.ids[first:]]])
    with result.off():
        logits = result.model(input_ids=ids.to(result.model.device), use_cache=False).logits[0].float()
    labelled = [before + i - first - 1 for i in range(first, len(example.ids)) if example.mask[i]]
    return (logits[labelled] / recipe.distill_temperature).softmax(-1)


def _divergence(logits: Tensor, example: Example, expected: Tensor, recipe: Recipe) -> Tensor:
    """KL from the teacher, with all but its likeliest tokens as one, summed over the labelled tokens."""
    labelled = [i - 1 for i in range(1, len(example.ids)) if example.mask[i]]
    own = (logits[labelled] / recipe.distill_temperature).softmax(-1)
    _, top = expected.topk(min(TOP, expected.shape[-1]))
    p, q = expected.gather(1, top), own.gather(1, top)
    p, q = (torch.cat([kept, 1 - kept.sum(-1, keepdim=True)], dim=-1) for kept in (p, q))
    return (p * (p.log() - q.log())).sum()


@torch.no_grad()
def _answered(result: Reference, example: Example, draw: Sequence[float], end_ids: Sequence[int]) -> Example:
    """The example with the answer that the candidate gives now, a token at a time."""
    ids, prompt = list(example.ids[: example.first]), example.first
    for number in draw:
        inputs = torch.tensor([ids], device=result.model.device)
        logits = result.model(input_ids=inputs, use_cache=False).logits[0, -1].float()
        total = logits.log_softmax(-1).double().exp().cumsum(-1)
        ids.append(min(int(torch.searchsorted(total, number * total[-1], right=True)), len(total) - 1))
        if ids[-1] in end_ids:
            break
    return Example(tuple(ids), (False,) * prompt + (True,) * (len(ids) - prompt), example.teacher)


def _batch(texts: Sequence[Example], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, labels and attention mask of a micro-batch, padded at the end to its longest text."""
    length = max(len(t.ids) for t in texts)
    ids = torch.zeros(len(texts), length, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    seen = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        n = len(text.ids)
        ids[row, :n] = torch.tensor(text.ids)
        labels[row, :n] = torch.where(torch.tensor(text.mask), ids[row, :n], -100)
        seen[row, :n] = 1
    return ids.to(device), labels.to(device), seen.to(device)
