"""Learning from what a teacher expects: forward KL over its likeliest tokens, with all other tokens as one.

A teacher's whole distribution over a vocabulary is large, and nearly all of it lies on a few tokens. What is kept of
each position are the `TOP` likeliest ones and the share of all others together, so that the loss is a KL of two whole
distributions: it is 0 where the student gives each kept token, and the rest as one, the teacher's share.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

TOP = 20  # tokens of a teacher's distribution that are kept; the published results need no more
TEMPERATURE = 2.0
TINY = 1e-30  # stands for a share that was rounded to 0, whose logarithm is asked for


@dataclass(frozen=True)
class TopTokens:
    """What a teacher expects at some positions."""

    ids: Tensor  # [position, top], int64: the likeliest tokens
    shares: Tensor  # [position, top], float32: of each of them, at the temperature
    rest: Tensor  # [position], float32: of all other tokens together
    temperature: Tensor  # [position], float32: what logits are divided by, the student's too

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, rows: slice) -> "TopTokens":
        return TopTokens(self.ids[rows], self.shares[rows], self.rest[rows], self.temperature[rows])

    @staticmethod
    def joined(parts: "list[TopTokens]") -> "TopTokens":
        """One after the other. All must be of one vocabulary."""
        return TopTokens(*(torch.cat([getattr(p, name) for p in parts]) for name in TopTokens.__dataclass_fields__))


@torch.no_grad()
def top_tokens(logits: Tensor, temperature: float | Tensor = TEMPERATURE, top: int = TOP) -> TopTokens:
    """The likeliest tokens of each row of a teacher's logits `[position, vocabulary]`.

    The temperature is one for all rows, or one for each.
    """
    degrees = torch.as_tensor(temperature, dtype=torch.float32, device=logits.device).expand(len(logits))
    shares = (logits.float() / degrees[:, None]).softmax(-1)
    kept, ids = shares.topk(min(top, shares.shape[-1]))
    rest = shares.scatter_(1, ids, 0.0).sum(-1)
    return TopTokens(ids, kept, rest, degrees)


def top_kl(logits: Tensor, teacher: TopTokens) -> Tensor:
    """KL from the teacher to the student of each row of the student's logits `[position, vocabulary]`, in nats.

    Gradients flow to the logits. They are those at the temperature: weigh by its square beside another loss.
    """
    logprobs = (logits.float() / teacher.temperature[:, None]).log_softmax(-1)
    others = logprobs.scatter(1, teacher.ids, float("-inf"))
    return _kl(logprobs.gather(1, teacher.ids), others.logsumexp(-1), teacher)


def top_kl_to_gradient(logits: Tensor, teacher: TopTokens) -> Tensor:
    """The same losses; the logits become, in place, the losses' gradient by them."""
    scale = teacher.temperature[:, None]
    shares = (logits / scale).softmax(-1, dtype=torch.float32)
    own = shares.gather(1, teacher.ids)
    others = shares.scatter(1, teacher.ids, 0.0).sum(-1, keepdim=True).clamp_(min=TINY)
    losses = _kl(own.clamp(min=TINY).log(), others.log().squeeze(1), teacher)
    # by a kept token's logit: own share minus the teacher's; by another's: its share times what the rest has too much
    shares.mul_(1 - teacher.rest[:, None] / others).scatter_(1, teacher.ids, own - teacher.shares)
    logits.copy_(shares.div_(scale))
    return losses


def _kl(logprobs: Tensor, rest: Tensor, teacher: TopTokens) -> Tensor:
    """From the student's log-probabilities of the kept tokens and of the rest as one."""
    # where a vocabulary has no others, both shares of the rest are 0, and 0 times anything is 0
    rest = torch.where(teacher.rest > 0, rest, torch.zeros_like(rest))
    entropy = torch.xlogy(teacher.shares, teacher.shares).sum(-1) + torch.xlogy(teacher.rest, teacher.rest)
    return entropy - (teacher.shares * logprobs).sum(-1) - teacher.rest * rest
