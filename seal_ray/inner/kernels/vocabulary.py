"""The vocabulary's cross-entropy together with its gradient."""

import torch
from torch import Tensor

from seal_ray.inner.kernels.operator import Operator


def _vocabulary_loss(logits: Tensor, targets: Tensor) -> Tensor:
    # softmax is a single pass; the normaliser is got back from its largest value, which can't be rounded to zero
    picked = targets[:, None]
    share = logits.softmax(-1, dtype=torch.float32)
    largest, where = logits.max(-1, keepdim=True)
    total = largest.float() - share.gather(1, where).log()
    losses = (total - logits.gather(1, picked).float()).squeeze(1)
    logits.copy_(share.scatter_add_(1, picked, torch.full_like(total, -1.0)))
    return losses


# the losses of some rows, whose logits become, in place, the losses' gradient by them
vocabulary_loss = Operator(
    "vocabulary_loss_(Tensor(a!) logits, Tensor targets) -> Tensor",
    _vocabulary_loss,
)
