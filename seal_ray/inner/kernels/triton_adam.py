# pyright: reportMissingImports=false, reportIndexIssue=false
"""The optimiser step of many adapters as Triton kernels."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from seal_ray.inner.kernels import adam

PIECE = 2048  # parameters of one program
NORM_PIECES = 32  # pieces that one program adds up for a norm
NUMBERS = tl.constexpr(adam.NUMBERS)
FIRST_LAST, SECOND_LAST = tl.constexpr(adam.FIRST_LAST), tl.constexpr(adam.SECOND_LAST)
ONE, STEP, DIGITS = tl.constexpr(adam.ONE), tl.constexpr(adam.STEP), tl.constexpr(adam.DIGITS)
HALFWAY = tl.constexpr(adam.ONE - adam.STEP // 2)


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
def _move(master, copy, grads, own, norm, row, grad, at, inside, m, v, split, HAS_COPY: tl.constexpr):
    """Writes the weights of a stretch of an adapter, and their copy where there is one; gives its moments."""
    beta_1, beta_2, eps, decay = tl.load(own), tl.load(own + 1), tl.load(own + 2), tl.load(own + 3)
    limit, gradient_scale, scale = tl.load(own + 4), tl.load(own + 5), tl.load(own + 6)
    rate, bias_1, bias_2 = tl.load(own + 7), tl.load(own + 8), tl.load(own + 9)
    g = tl.load(grads + grad, mask=inside, other=0.0).to(tl.float32)
    g = tl.where(at < split, g, g * gradient_scale) * tl.minimum(limit / (norm + 1e-6), 1.0)
    w = tl.load(master + row, mask=inside, other=0.0)
    m = beta_1 * m + (1.0 - beta_1) * g
    v = beta_2 * v + (1.0 - beta_2) * g * g
    w = w * (1.0 - rate * decay) - rate / bias_1 * m / (tl.sqrt(v / bias_2) + eps)
    tl.store(master + row, w, mask=inside)
    if HAS_COPY:
        tl.store(copy + row, tl.where(at < split, w, w * scale).to(copy.dtype.element_ty), mask=inside)
    return m, v


@triton.jit
def _rounded(x, up):
    """To 16 bits, away from zero where what is lost is at least 1 - up of the last digit."""
    bits = x.to(tl.int32, bitcast=True) + (up * 65536).to(tl.int32)
    return (bits & -65536).to(tl.float32, bitcast=True).to(tl.bfloat16)


@triton.jit
def _step_kernel(
    master, first, second, copy, grads, slots, places, norms, numbers, size, split,
    SHORT: tl.constexpr, HAS_COPY: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    adapter = tl.program_id(1)
    norm = tl.load(norms + adapter)
    own = numbers + adapter * NUMBERS
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    # an adapter whose norm is NaN or infinite stays as it was
    inside = at < tl.where(norm < float("inf"), size, 0)
    row = tl.load(slots + adapter) * size + at
    m = tl.load(first + row, mask=inside, other=0.0).to(tl.float32)
    v = tl.load(second + row, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(places + adapter) * size + at
    m, v = _move(master, copy, grads, own, norm, row, grad, at, inside, m, v, split, HAS_COPY)
    if SHORT:
        m = _rounded(m, tl.load(own + 10))
        v = _rounded(v, tl.load(own + 11))
    tl.store(first + row, m, mask=inside)
    tl.store(second + row, v, mask=inside)


@triton.jit
def _code(size, top, LAST: tl.constexpr, LEAST: tl.constexpr):
    ratio = size * (1.0 / tl.maximum(top, 1e-37))
    code = ((ratio.to(tl.int32, bitcast=True) - HALFWAY) >> DIGITS) + LAST
    return tl.where(ratio > 0.0, tl.maximum(code, LEAST), 0)


@triton.jit
def _size(code, top, LAST: tl.constexpr):
    ratio = ((code - LAST) * STEP + ONE).to(tl.float32, bitcast=True)
    return tl.where(code > 0, ratio * top, 0.0)


@triton.jit
def _step_int8_kernel(
    master, first, second, scales, copy, grads, slots, places, norms, numbers, bounds, size, split, blocks,
    HAS_COPY: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """A program has a block of an adapter, and so the largest of its moments."""
    block, adapter = tl.program_id(0), tl.program_id(1)
    norm = tl.load(norms + adapter)
    own = numbers + adapter * NUMBERS
    at = tl.load(bounds + block) + tl.arange(0, SIZE)
    inside = at < tl.where(norm < float("inf"), tl.load(bounds + block + 1), 0)
    slot = tl.load(slots + adapter)
    row = slot * size + at
    top = scales + slot * 2 * blocks + block
    code = tl.load(first + row, mask=inside, other=0).to(tl.int32)
    m = _size(tl.abs(code), tl.load(top), FIRST_LAST)
    m = tl.where(code < 0, -m, m)
    v = _size(tl.load(second + row, mask=inside, other=0).to(tl.int32), tl.load(top + blocks), SECOND_LAST)
    grad = tl.load(places + adapter) * size + at
    m, v = _move(master, copy, grads, own, norm, row, grad, at, inside, m, v, split, HAS_COPY)
    m_top, v_top = tl.max(tl.abs(m)), tl.max(v)
    code = _code(tl.abs(m), m_top, FIRST_LAST, 0)
    tl.store(first + row, tl.where(m < 0.0, -code, code).to(tl.int8), mask=inside)
    tl.store(second + row, _code(v, v_top, SECOND_LAST, 1).to(tl.uint8), mask=inside)
    tl.store(top, m_top, mask=norm < float("inf"))
    tl.store(top + blocks, v_top, mask=norm < float("inf"))


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
    master: Tensor, first: Tensor, second: Tensor, copy: Tensor | None, grads: Tensor,
    slots: Tensor, places: Tensor, norms: Tensor, numbers: Tensor, split: int,
) -> None:  # fmt: skip
    size, used = master.shape[1], master if copy is None else copy
    _step_kernel[(triton.cdiv(size, PIECE), len(slots))](
        master, first, second, used, grads, slots, places, norms, numbers, size, split,
        SHORT=first.dtype != torch.float32, HAS_COPY=copy is not None, SIZE=PIECE,
    )  # fmt: skip


def adam_step_int8(
    master: Tensor, first: Tensor, second: Tensor, scales: Tensor, copy: Tensor | None, grads: Tensor,
    slots: Tensor, places: Tensor, norms: Tensor, numbers: Tensor, bounds: Tensor, longest: int, split: int,
) -> None:  # fmt: skip
    blocks, size, used = len(bounds) - 1, triton.next_power_of_2(longest), master if copy is None else copy
    _step_int8_kernel[(blocks, len(slots))](
        master, first, second, scales, used, grads, slots, places, norms, numbers, bounds, master.shape[1], split,
        blocks, HAS_COPY=copy is not None, SIZE=size, num_warps=min(16, max(4, size // 512)),
    )  # fmt: skip


KERNELS: dict[str, Any] = {
    "gradient_norms": gradient_norms,
    "adam_step_": adam_step,
    "adam_step_int8_": adam_step_int8,
}
