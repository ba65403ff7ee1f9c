"""Vocabulary loss of labelled rows, in chunks: the logits of a whole packed row never exist at once."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seal_ray.inner.distill import TopTokens, top_kl_to_gradient
from seal_ray.inner.kernels.vocabulary import vocabulary_loss
from seal_ray.inner.memory import LOGITS

PIECE = 16  # rows whose float32 shares stay in a processor's cache


def chunks(rows: int, vocabulary: int, device: torch.device) -> Iterator[slice]:
    size = max(1, LOGITS.get(device.type, LOGITS["cuda"]) // vocabulary)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def loss_and_gradient(
    head: nn.Linear, hidden: Tensor, targets: Tensor, teacher: TopTokens | None, shares: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss of each row, and the gradient by `hidden` of their sum weighted by `shares`.

    The first rows have targets and their cross-entropy; the rest are held to what a teacher expects.
    """
    losses = torch.empty(len(hidden), device=hidden.device)
    gradient = torch.empty_like(hidden)
    for at in chunks(len(hidden), head.weight.shape[0], hidden.device):
        logits = F.linear(hidden[at], head.weight, head.bias)
        size = PIECE if hidden.device.type == "cpu" else len(logits)
        for start in range(at.start, at.stop, size):
            stop = min(start + size, at.stop)
            losses[start:stop] = _piece(logits[start - at.start : stop - at.start], start, targets, teacher)
        gradient[at] = (logits @ head.weight).mul_(shares[at, None])
    return losses, gradient


def _piece(logits: Tensor, start: int, targets: Tensor, teacher: TopTokens | None) -> Tensor:
    """The losses of the rows from `start` on, whose logits become their gradient."""
    if teacher is None or start + len(logits) <= len(targets):
        return vocabulary_loss(logits, targets[start : start + len(logits)])
    own = max(0, len(targets) - start)  # rows that have targets
    taught = teacher.at(slice(start + own - len(targets), start + len(logits) - len(targets)))
    parts = [vocabulary_loss(logits[:own], targets[start:])] if own else []
    return torch.cat([*parts, top_kl_to_gradient(logits[own:], taught)])


def log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each row's target."""
    logits = logits.float()
    return logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(-1)


def token_log_probabilities(logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of each token in its row of the logits; a row may predict several."""
    logits = logits.float()
    return logits[rows, tokens] - logits.logsumexp(-1)[rows]
