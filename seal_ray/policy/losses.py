"""What each algorithm minimises, as a sum that adds up over rows and workers to the loss of the whole global batch.

Each function sees the log-probabilities of completion tokens only. The denominators come from `Size`, which counts the
global batch: so it makes no difference how a batch was cut into rows or how many workers took part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seal_ray.config import PolicySection
from seal_ray.policy.lessons import Lesson

MAX_CORRECTION = 2.0


@dataclass(frozen=True)
class Size:
    """What a global batch's loss is divided by."""

    lessons: int
    tokens: int  # of the completions that are learned, those of an opponent left out


def size(batch: Sequence[Lesson]) -> Size:
    return Size(len(batch), sum(len(lesson.text.ids) for lesson in batch))


def loss(
    lesson: Lesson, logprobs: Sequence[Tensor], reference: Sequence[Tensor], batch: Size, section: PolicySection
) -> Tensor:
    """One lesson's share of its batch's loss. `logprobs` and `reference` hold one tensor for each of its texts."""
    if lesson.algorithm == "pairs":
        return (
            preference(logprobs[0], logprobs[1], reference[0], reference[1], section.beta)
            * lesson.weight
            / batch.lessons
        )
    if lesson.algorithm == "grpo":
        sampled = torch.tensor(lesson.text.logprobs, dtype=torch.float32, device=logprobs[0].device)
        clipped = policy_gradient(logprobs[0], reference[0], sampled, lesson.weight, section.ratio_clip, section.beta)
        return clipped / batch.tokens
    return imitation(logprobs[0]) * lesson.weight / batch.tokens


def imitation(logprobs: Tensor) -> Tensor:
    """Negative log-likelihood. With a weight over 0 it makes the text likelier; below 0 it has no lower bound."""
    return -logprobs.sum()


def preference(better: Tensor, worse: Tensor, better_before: Tensor, worse_before: Tensor, beta: float) -> Tensor:
    """Direct preference: raise how much more the better text gained, since the start, than the worse one.

    Assumes that the starting version is the reference. It raises the difference and may lower both.
    """
    gained = (better.sum() - better_before.sum()) - (worse.sum() - worse_before.sum())
    return -F.logsigmoid(beta * gained)


def policy_gradient(
    logprobs: Tensor, reference: Tensor, sampled: Tensor, advantage: float, clip: float, beta: float
) -> Tensor:
    """Clipped probability ratio times the advantage, with a penalty for leaving the reference.

    The ratio is between now and the start of the update, both by the trainer, so that it starts at exactly 1. The
    sampler's own log-probabilities differ from the trainer's a little (other kernels, and top-p renormalises):
    that difference is corrected for by a weight of at most 2 instead of being mistaken for progress.
    """
    ratio = (logprobs - reference).exp()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    correction = (reference - sampled).exp().clamp(max=MAX_CORRECTION)
    away = reference - logprobs
    kl = away.exp() - away - 1
    return (beta * kl - correction * surrogate).sum()
