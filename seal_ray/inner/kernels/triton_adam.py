# pyright: reportMissingImports=false, reportIndexIssue=false
"""The optimiser step of many adapters as Triton kernels. Never run on a GPU: compiled for one, interpreted on a CPU."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

PIECE = 2048  # parameters of one program
NORM_PIECES = 32  # pieces that one program adds up for a norm
NUMBERS = tl.constexpr(10)


@triton.jit
def _squares_kernel(grads, places, numbers, sums, size, split, count, PIECES: tl.constexpr, SIZE: tl.constexpr):
    """The sum of squares of a stretch of a gradient. Each has its own place, so that no order is left to luck."""
    adapter = tl.program_id(1)
    row = tl.load(places + adapter) * size
    scale = tl.load(numbers + adapter * NUMBERS + 5)
    total = tl.zeros((SIZE,), tl.float32)
    for piece in range(PIECES):
        at = (tl.program_id(0).to(tl.int64) * PIECES + piece) * SIZE + tl.arange(0, SIZE)
        g = tl.load(grads + row + at, mask=at < size, other=0.0).to(tl.float32)
        g = tl.where(at < split, g, g * scale)
        total += g * g
    tl.store(sums + adapter * count + tl.program_id(0), tl.sum(total))


@triton.jit
def _norms_kernel(sums, norms, count, SIZE: tl.constexpr):
    adapter = tl.program_id(0)
    total = tl.zeros((SIZE,), tl.float32)
    for start in range(0, count, SIZE):
        at = start + tl.arange(0, SIZE)
        total += tl.load(sums + adapter * count + at, mask=at < count, other=0.0)
    tl.store(norms + adapter, tl.sqrt(tl.sum(total)))


@triton.jit
def _step_kernel(
    master, first, second, copy, grads, slots, places, norms, numbers, size, split, SIZE: tl.constexpr
):  # fmt: skip
    adapter = tl.program_id(1)
    norm = tl.load(norms + adapter)
    own = numbers + adapter * NUMBERS
    beta_1, beta_2, eps, decay = tl.load(own), tl.load(own + 1), tl.load(own + 2), tl.load(own + 3)
    limit, gradient_scale, scale = tl.load(own + 4), tl.load(own + 5), tl.load(own + 6)
    rate, bias_1, bias_2 = tl.load(own + 7), tl.load(own + 8), tl.load(own + 9)
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    # an adapter whose norm is NaN or infinite stays as it was
    inside = at < tl.where(norm < float("inf"), size, 0)
    row = tl.load(slots + adapter) * size + at
    g = tl.load(grads + tl.load(places + adapter) * size + at, mask=inside, other=0.0).to(tl.float32)
    g = tl.where(at < split, g, g * gradient_scale) * tl.minimum(limit / (norm + 1e-6), 1.0)
    m = tl.load(first + row, mask=inside, other=0.0)
    v = tl.load(second + row, mask=inside, other=0.0)
    w = tl.load(master + row, mask=inside, other=0.0)
    m = beta_1 * m + (1.0 - beta_1) * g
    v = beta_2 * v + (1.0 - beta_2) * g * g
    w = w * (1.0 - rate * decay) - rate / bias_1 * m / (tl.sqrt(v / bias_2) + eps)
    tl.store(first + row, m, mask=inside)
    tl.store(second + row, v, mask=inside)
    tl.store(master + row, w, mask=inside)
    tl.store(copy + row, tl.where(at < split, w, w * scale).to(copy.dtype.element_ty), mask=inside)


def gradient_norms(grads: Tensor, places: Tensor, numbers: Tensor, split: int) -> Tensor:
    adapters, size = len(places), grads.shape[1]
    stretches = triton.cdiv(size, PIECE * NORM_PIECES)
    sums, norms = (torch.empty(adapters * n, dtype=torch.float32, device=grads.device) for n in (stretches, 1))
    _squares_kernel[(stretches, adapters)](
        grads, places, numbers, sums, size, split, stretches, PIECES=NORM_PIECES, SIZE=PIECE
    )
    _norms_kernel[(adapters,)](sums, norms, stretches, SIZE=PIECE)
    return norms


def adam_step(
    master: Tensor, first: Tensor, second: Tensor, copy: Tensor, grads: Tensor,
    slots: Tensor, places: Tensor, norms: Tensor, numbers: Tensor, split: int,
) -> None:  # fmt: skip
    size = master.shape[1]
    _step_kernel[(triton.cdiv(size, PIECE), len(slots))](
        master, first, second, copy, grads, slots, places, norms, numbers, size, split, SIZE=PIECE
    )


KERNELS: dict[str, Any] = {"gradient_norms": gradient_norms, "adam_step_": adam_step}
