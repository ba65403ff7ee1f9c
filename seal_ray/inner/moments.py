"""Adam's two moments of every slot: in float32, or in 16 or 8 bits a number so that more adapters fit on a device.

`bfloat16`: with beta_2 = 0.999 a step changes the second moment by a thousandth or less, which rounding to the nearest
of 8 digits would lose. So what is rounded up changes from step to step, by thresholds that visit all of [0, 1) evenly:
what one step loses the next ones make up for.
`int8`: three binary digits and how many times a moment is halved from the largest of its block, so that small ones keep
their digits; the second over twice as many halvings, for its root is what counts. As the largest moves by itself all
that is told beside it moves with it, so the nearest will do. A second moment is never taken for zero where there is
one: what is divided by it would become anything.

Both depend on an adapter's own numbers and steps alone: a block is a stretch of one of its matrices, and the same
stretch whatever rank its neighbours have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from seal_ray.inner.stack import Stack

TYPES = {
    "float32": (torch.float32, torch.float32),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "int8": (torch.int8, torch.uint8),
}
A_BLOCK = 2048  # numbers of an A in a block
B_ROWS = 32  # rows of a B in a block: they are as long as the largest rank in the bank
TURNS = (0.6180339887498949, 0.41421356237309515)  # parts of the golden ratio and of the root of 2


@dataclass(frozen=True)
class Moments:
    """Of all slots, a row each."""

    kind: str
    first: Tensor
    second: Tensor
    scales: Tensor | None = None  # [slot, moment, block]: the largest of a block; with int8
    bounds: Tensor | None = None  # [block + 1]: where in a row blocks begin, and where the last one ends
    longest: int = 0  # block

    @staticmethod
    def of(kind: str, slots: int, stack: Stack, device: torch.device) -> "Moments":
        first, second = (torch.zeros(slots, stack.size, dtype=dtype, device=device) for dtype in TYPES[kind])
        if kind != "int8":
            return Moments(kind, first, second)
        bounds = block_bounds(stack)
        scales = torch.zeros(slots, 2, len(bounds) - 1, device=device)
        longest = max(stop - start for start, stop in pairwise(bounds))
        return Moments(kind, first, second, scales, torch.tensor(bounds, device=device), longest)

    def clear(self, slot: int) -> None:
        for rows in (self.first, self.second, self.scales):
            if rows is not None:
                rows[slot].zero_()


def block_bounds(stack: Stack) -> Sequence[int]:
    bounds: list[int] = []
    for places, length in ((stack.a_at, A_BLOCK), (stack.b_at, B_ROWS * stack.rank)):
        ends = [*list(places.values())[1:], stack.split if places is stack.a_at else stack.size]
        for start, stop in zip(places.values(), ends, strict=True):
            bounds += range(start, stop, length)
    return [*bounds, stack.size]


def thresholds(step: int) -> list[float]:
    """From which share of a unit on the two moments are rounded up in a step, counted from the end of it."""
    return [step * turn % 1 for turn in TURNS]
