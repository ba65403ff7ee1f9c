"""Trains a small Llama from nothing in float32, the same on any machine: how the tiny worlds' models are made."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

PEAKS = 0.02, 3e-3  # learning rates: of matrices, with Muon; of all else, with AdamW
WARMUP = 50
MOMENTUM = 0.95
QUINTIC = (
    3.4445,
    -4.7750,
    2.0315,
)  # of Newton and Schulz's iteration towards an orthogonal matrix, as Muon has them
Batch = tuple[Any, Any]  # ids and labels, [text, token]; labels are -100 where nothing is learned


def new_llama(seed: int, **shape: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, dtype="float32", **shape))


class Muon:
    """Muon in float32, matrices of one shape at once; torch's own takes bfloat16, which many CPUs only emulate."""

    def __init__(self, matrices: Sequence[Tensor], weight_decay: float) -> None:
        self.decay = weight_decay
        self.groups: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            self.groups[matrix.shape].append(matrix)
        self.momentum = {shape: torch.zeros(len(own), *shape) for shape, own in self.groups.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for shape, own in self.groups.items():
            gradients = torch.stack([m.grad for m in own if m.grad is not None])
            momentum = self.momentum[shape].lerp_(gradients, 1 - MOMENTUM)
            updates = orthogonal(gradients.lerp(momentum, MOMENTUM))
            scale = rate * math.sqrt(max(1.0, shape[0] / shape[1]))
            for matrix, update in zip(own, updates, strict=True):
                matrix.mul_(1 - rate * self.decay).sub_(update, alpha=scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly the nearest orthogonal matrix of each, by five steps of Newton and Schulz."""
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x.transpose(1, 2) if tall else x


def share_of_peak(step: int, steps: int) -> float:
    """Warm-up, then a cosine down to a twentieth."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    return 0.05 + 0.95 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, steps - WARMUP))) / 2


def train(model: Any, batch: Callable[[int], Batch], steps: int) -> Any:
    """Trains the model on a batch for each step, and returns it ready for use."""
    began, busy = time.monotonic(), time.process_time()
    weights = dict(model.train().named_parameters())
    matrices = [w for name, w in weights.items() if w.ndim == 2 and "embed" not in name]
    rest = [w for name, w in weights.items() if w.ndim != 2 or "embed" in name]
    muon = Muon(matrices, weight_decay=0.01)
    adam = torch.optim.AdamW(rest, lr=PEAKS[1], betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(steps):
        ids, labels = (torch.as_tensor(a) for a in batch(step))
        share = share_of_peak(step, steps)
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        adam.param_groups[0]["lr"] = PEAKS[1] * share
        adam.step()
        muon.step(PEAKS[0] * share)
        model.zero_grad(set_to_none=True)
        if step % 50 == 49 or step == steps - 1:
            spent = f"{time.monotonic() - began:.0f} s, {time.process_time() - busy:.0f} s of CPU"
            print(f"step {step + 1} of {steps}, loss {loss.item():.3f}, {spent}", flush=True)
    print(f"{sum(w.numel() for w in weights.values()) / 1e6:.2f} M weights")
    return model.eval()
