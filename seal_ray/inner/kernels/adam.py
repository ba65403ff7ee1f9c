"""The optimiser step of many adapters, each a row: gradients' norms, and AdamW with the copy that a row is used as.

An adapter's B is used times a scale, so the gradient that comes is by the scaled B: it is scaled here, on its way.
Moments are float32, bfloat16, or codes of 8 bits (inner/moments.py says why they are rounded as they are).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from seal_ray.inner.kernels.operator import Operator

NUMBERS = 12
STRETCH = 2**17  # numbers that a processor's cache holds while they are worked on
# codes of 8 bits: how many steps of 3 binary digits a number is below the largest, which has the last code; 0 is 0
FIRST_LAST, SECOND_LAST = 127, 255
DIGITS = 20  # of a float32 that a code has not
STEP = 1 << DIGITS
ONE = 127 << 23  # as a float32's bits


class Numbers(NamedTuple):
    """Of an adapter in a step, in the order in which they are handed over."""

    beta_1: float
    beta_2: float
    eps: float
    decay: float
    limit: float  # of the gradient's norm
    gradient_scale: float  # of B's gradient
    scale: float  # of B in the copy
    rate: float
    bias_1: float  # 1 - beta_1 ** step
    bias_2: float
    up_1: float  # thresholds by which moments are rounded to 16 bits
    up_2: float


def row_norms(grads: Tensor, places: Sequence[int], split: int, scales: Tensor) -> Tensor:
    """The norms of some rows, whose parts from `split` on count times their scale."""
    parts = [grads[place, half] for place in places for half in (slice(0, split), slice(split, None))]
    of_a, of_b = torch.stack(torch._foreach_norm(parts, 2, torch.float32)).view(-1, 2).unbind(1)
    return torch.hypot(of_a, of_b * scales)


def _gradient_norms(grads: Tensor, places: Tensor, numbers: Tensor, split: int) -> Tensor:
    return row_norms(grads, places.tolist(), split, numbers[:, Numbers._fields.index("gradient_scale")])


@dataclass(frozen=True)
class _Row:
    """An adapter in a step."""

    slot: int
    weights: Tensor
    copy: Tensor | None
    grads: Tensor
    clip: float
    numbers: Numbers
    split: int

    def move(self, at: slice, m: Tensor, v: Tensor) -> None:
        """The weights of a stretch, and its moments in place."""
        n, of_b = self.numbers, at.start >= self.split
        g = self.grads[at].float() * (self.clip * (n.gradient_scale if of_b else 1.0))
        m.mul_(n.beta_1).add_(g, alpha=1 - n.beta_1)
        v.mul_(n.beta_2).addcmul_(g, g, value=1 - n.beta_2)
        weights = self.weights[at]
        divisor = (v / n.bias_2).sqrt_().add_(n.eps)
        weights.mul_(1 - n.rate * n.decay).addcdiv_(m, divisor, value=-n.rate / n.bias_1)
        if self.copy is not None:
            self.copy[at].copy_(weights * n.scale if of_b else weights)

    def stretches(self) -> Iterator[slice]:
        size = len(self.weights)
        length = STRETCH if self.weights.device.type == "cpu" else size
        for start, stop in ((0, self.split), (self.split, size)):
            for at in range(start, stop, length):
                yield slice(at, min(at + length, stop))


def _rows(
    master: Tensor, copy: Tensor | None, grads: Tensor, slots: Tensor, places: Tensor, norms: Tensor, numbers: Tensor,
    split: int,
) -> Iterator[_Row]:  # fmt: skip
    """Those whose gradients have a finite norm: another stays as it was."""
    rows = zip(slots.tolist(), places.tolist(), norms.tolist(), numbers.tolist(), strict=True)
    for slot, place, norm, own in rows:
        if norm < float("inf"):
            named = Numbers(*own)
            clip = min(1.0, named.limit / (norm + 1e-6))
            yield _Row(slot, master[slot], None if copy is None else copy[slot], grads[place], clip, named, split)


def _step(
    master: Tensor, first: Tensor, second: Tensor, copy: Tensor | None, grads: Tensor,
    slots: Tensor, places: Tensor, norms: Tensor, numbers: Tensor, split: int,
) -> None:  # fmt: skip
    for row in _rows(master, copy, grads, slots, places, norms, numbers, split):
        for at in row.stretches():
            kept = first[row.slot, at], second[row.slot, at]
            moments = [k.float() for k in kept]
            row.move(at, *moments)
            for k, moment, up in zip(kept, moments, (row.numbers.up_1, row.numbers.up_2), strict=True):
                if k.dtype != torch.float32:
                    k.copy_(to_bfloat16(moment, up))


def to_bfloat16(x: Tensor, up: float) -> Tensor:
    """Rounded away from zero where what is lost is at least `1 - up` of the last digit, else towards zero."""
    bits = x.view(torch.int32) + int(up * 65536)
    return (bits & -65536).view(torch.float32).to(torch.bfloat16)


def _step_int8(
    master: Tensor, first: Tensor, second: Tensor, scales: Tensor, copy: Tensor | None, grads: Tensor,
    slots: Tensor, places: Tensor, norms: Tensor, numbers: Tensor, bounds: Tensor, longest: int, split: int,
) -> None:  # fmt: skip
    runs = list(_runs(bounds.tolist(), split))
    for row in _rows(master, copy, grads, slots, places, norms, numbers, split):
        for start, blocks, length in runs:
            at = slice(start, start + len(blocks) * length)
            codes = [rows[row.slot, at].view(len(blocks), length) for rows in (first, second)]
            tops = scales[row.slot, :, blocks.start : blocks.stop, None]
            m, v = (decoded(*own) for own in zip(codes, tops, (FIRST_LAST, SECOND_LAST), strict=True))
            row.move(at, m.view(-1), v.view(-1))
            for moment, top, code, last in zip((m, v), tops, codes, (FIRST_LAST, SECOND_LAST), strict=True):
                top.copy_(moment.abs().amax(1, keepdim=True))
                code.copy_(coded(moment, top, last))


def _runs(bounds: list[int], split: int) -> Iterator[tuple[int, range, int]]:
    """Blocks of one length behind each other: where they begin in a row, which they are, and how long."""
    begin = 0
    lengths = [stop - start for start, stop in pairwise(bounds)]
    for n in range(1, len(bounds)):
        full = (n - begin) * lengths[begin] >= STRETCH
        if n == len(lengths) or full or lengths[n] != lengths[begin] or bounds[n] == split:
            yield bounds[begin], range(begin, n), lengths[begin]
            begin = n


def coded(moment: Tensor, top: Tensor, last: int) -> Tensor:
    """A second moment is never 0 where there is one."""
    ratio = moment.abs() * (1 / top.clamp(min=1e-37))
    code = (ratio.view(torch.int32) - (ONE - STEP // 2) >> DIGITS) + last
    code.clamp_(min=int(last == SECOND_LAST)).mul_(ratio > 0)
    return code * moment.sign().to(torch.int32)


def decoded(code: Tensor, top: Tensor, last: int) -> Tensor:
    size = code.to(torch.int32).abs()
    return ((size - last) * STEP + ONE).view(torch.float32) * code.sign() * top


gradient_norms = Operator(
    "gradient_norms(Tensor grads, Tensor places, Tensor numbers, int split) -> Tensor",
    _gradient_norms,
    lambda grads, places, numbers, split: numbers.new_empty(len(numbers)),
)

# of the rows `slots`, whose gradients are the rows `places` of grads; one whose norm is not finite stays as it was
adam_step = Operator(
    "adam_step_(Tensor(a!) master, Tensor(b!) first, Tensor(c!) second, Tensor(d!)? copy, Tensor grads,"
    " Tensor slots, Tensor places, Tensor norms, Tensor numbers, int split) -> ()",
    _step,
    lambda *_: None,
)

# the same, with moments in codes beside the largest of each block; blocks begin at `bounds`, and are `longest` at most
adam_step_int8 = Operator(
    "adam_step_int8_(Tensor(a!) master, Tensor(b!) first, Tensor(c!) second, Tensor(d!) scales, Tensor(e!)? copy,"
    " Tensor grads, Tensor slots, Tensor places, Tensor norms, Tensor numbers, Tensor bounds, int longest,"
    " int split) -> ()",
    _step_int8,
    lambda *_: None,
)
