# pyright: reportMissingImports=false, reportIndexIssue=false
"""The operations between a block's products as Triton kernels, each one launch.

A row of a residual stream is one program's; wider tensors are cut into pieces. What is added up is added in float32.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

PIECE = 1024  # elements of one program where rows do not matter


@triton.jit
def _norm_kernel(y, x, more, weight, out, width, eps, HAS_X: tl.constexpr, HAS_MORE: tl.constexpr, WIDTH: tl.constexpr):
    """out = weight * s / rms(s) where s = y + x + more, which is written back to y if anything was added."""
    at = tl.arange(0, WIDTH)
    inside = at < width
    row = tl.program_id(0).to(tl.int64) * width
    s = tl.load(y + row + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_MORE:
        s += tl.load(more + row + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_X:
        s += tl.load(x + row + at, mask=inside, other=0.0).to(tl.float32)
        s = s.to(y.dtype.element_ty)
        tl.store(y + row + at, s, mask=inside)
        s = s.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(s * s) / width + eps)
    unit = (s * scale).to(out.dtype.element_ty).to(tl.float32)
    w = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row + at, (unit * w).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _norm_backward_kernel(
    dy, more, x, weight, through, out, width, eps,
    HAS_MORE: tl.constexpr, HAS_THROUGH: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """dy becomes the gradient of x by way of the norm, and `through`; out is x normalised."""
    at = tl.arange(0, WIDTH)
    inside = at < width
    row = tl.program_id(0).to(tl.int64) * width
    s = tl.load(x + row + at, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    d = tl.load(dy + row + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_MORE:
        d += tl.load(more + row + at, mask=inside, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(s * s) / width + eps)
    unit = (s * scale).to(out.dtype.element_ty).to(tl.float32)
    inward = d * w
    dx = (inward - unit * (tl.sum(inward * unit) / width)) * scale
    if HAS_THROUGH:
        dx += tl.load(through + row + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(dy + row + at, dx.to(dy.dtype.element_ty), mask=inside)
    tl.store(out + row + at, (unit * w).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _add_kernel(y, x, more, count, HAS_MORE: tl.constexpr, SIZE: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = at < count
    s = tl.load(y + at, mask=inside).to(tl.float32) + tl.load(x + at, mask=inside).to(tl.float32)
    if HAS_MORE:
        s += tl.load(more + at, mask=inside).to(tl.float32)
    tl.store(y + at, s.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _swiglu_kernel(
    gate, up, more_gate, more_up, out, count, HAS_MORE_GATE: tl.constexpr, HAS_MORE_UP: tl.constexpr, SIZE: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = at < count
    g = tl.load(gate + at, mask=inside).to(tl.float32)
    u = tl.load(up + at, mask=inside).to(tl.float32)
    if HAS_MORE_GATE:
        g += tl.load(more_gate + at, mask=inside).to(tl.float32)
        g = g.to(gate.dtype.element_ty)
        tl.store(gate + at, g, mask=inside)
        g = g.to(tl.float32)
    if HAS_MORE_UP:
        u += tl.load(more_up + at, mask=inside).to(tl.float32)
        u = u.to(up.dtype.element_ty)
        tl.store(up + at, u, mask=inside)
        u = u.to(tl.float32)
    tl.store(out + at, (g * tl.sigmoid(g) * u).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _swiglu_backward_kernel(gate, up, dy, more, out, count, HAS_MORE: tl.constexpr, SIZE: tl.constexpr):
    """gate and up become their gradients, out their product."""
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = at < count
    g = tl.load(gate + at, mask=inside).to(tl.float32)
    u = tl.load(up + at, mask=inside).to(tl.float32)
    d = tl.load(dy + at, mask=inside).to(tl.float32)
    if HAS_MORE:
        d += tl.load(more + at, mask=inside).to(tl.float32)
    share = tl.sigmoid(g)
    silu = g * share
    tl.store(out + at, (silu * u).to(out.dtype.element_ty), mask=inside)
    tl.store(gate + at, (d * u * share * (1.0 + g * (1.0 - share))).to(gate.dtype.element_ty), mask=inside)
    tl.store(up + at, (d * silu).to(up.dtype.element_ty), mask=inside)


@triton.jit
def _turn(x, more, out, row, heads, cos_1, sin_1, cos_2, sin_2, half,
          HAS_MORE: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr):  # fmt: skip
    head, at = tl.arange(0, HEADS), tl.arange(0, HALF)
    inside = (head < heads)[:, None] & (at < half)[None]
    first = row * heads * 2 * half + head[:, None] * 2 * half + at[None]
    a = tl.load(x + first, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(x + first + half, mask=inside, other=0.0).to(tl.float32)
    if HAS_MORE:
        a += tl.load(more + first, mask=inside, other=0.0).to(tl.float32)
        b += tl.load(more + first + half, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + first, (a * cos_1 - b * sin_1).to(out.dtype.element_ty), mask=inside)
    tl.store(out + first + half, (b * cos_2 + a * sin_2).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _rotate_kernel(
    q, k, v, more_q, more_k, more_v, out_q, out_k, cos, sin, q_heads, k_heads, half,
    BACK: tl.constexpr, HAS_MORE_Q: tl.constexpr, HAS_MORE_K: tl.constexpr, HAS_MORE_V: tl.constexpr,
    Q_HEADS: tl.constexpr, K_HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Queries and keys at their positions, or, going back, their gradients before that; v becomes v + more_v."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, HALF)
    inside = at < half
    angles = row * 2 * half + at
    cos_1 = tl.load(cos + angles, mask=inside, other=0.0).to(tl.float32)[None]
    cos_2 = tl.load(cos + angles + half, mask=inside, other=0.0).to(tl.float32)[None]
    sin_1 = tl.load(sin + angles, mask=inside, other=0.0).to(tl.float32)[None]
    sin_2 = tl.load(sin + angles + half, mask=inside, other=0.0).to(tl.float32)[None]
    if BACK:
        turned = sin_1
        sin_1 = -sin_2
        sin_2 = -turned
    _turn(q, more_q, out_q, row, q_heads, cos_1, sin_1, cos_2, sin_2, half, HAS_MORE_Q, Q_HEADS, HALF)
    _turn(k, more_k, out_k, row, k_heads, cos_1, sin_1, cos_2, sin_2, half, HAS_MORE_K, K_HEADS, HALF)
    if HAS_MORE_V:
        head, whole = tl.arange(0, K_HEADS), tl.arange(0, 2 * HALF)
        within = (head < k_heads)[:, None] & (whole < 2 * half)[None]
        place = row * k_heads * 2 * half + head[:, None] * 2 * half + whole[None]
        s = tl.load(v + place, mask=within).to(tl.float32) + tl.load(more_v + place, mask=within).to(tl.float32)
        tl.store(v + place, s.to(v.dtype.element_ty), mask=within)


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """A kernel takes a tensor also where there is none; it does not look at it."""
    return other if tensor is None else _flat(tensor)


def _flat(tensor: Tensor) -> Tensor:
    assert tensor.is_contiguous(), "kernels read rows that lie behind each other"
    return tensor


def _by_row(rows: Tensor) -> dict[str, Any]:
    width = triton.next_power_of_2(rows.shape[-1])
    return {"WIDTH": width, "num_warps": min(16, max(4, width // 512))}


def _pieces(tensor: Tensor) -> tuple[int]:
    return (triton.cdiv(tensor.numel(), PIECE),)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    out = torch.empty_like(_flat(x))
    _norm_kernel[(len(x),)](x, x, x, weight, out, x.shape[1], eps, HAS_X=False, HAS_MORE=False, **_by_row(x))
    return out


def add_rms_norm(y: Tensor, x: Tensor, more: Tensor | None, weight: Tensor, eps: float) -> Tensor:
    out, has = torch.empty_like(_flat(y)), {"HAS_X": True, "HAS_MORE": more is not None}
    _norm_kernel[(len(y),)](y, _flat(x), _or(more, y), weight, out, y.shape[1], eps, **has, **_by_row(y))
    return out


def rms_norm_backward(
    dy: Tensor, more: Tensor | None, x: Tensor, weight: Tensor, eps: float, through: Tensor | None
) -> Tensor:
    out, has = torch.empty_like(_flat(x)), {"HAS_MORE": more is not None, "HAS_THROUGH": through is not None}
    through = None if through is None else through.contiguous()
    _norm_backward_kernel[(len(x),)](
        _flat(dy), _or(more, dy), x, weight, _or(through, dy), out, x.shape[1], eps, **has, **_by_row(x)
    )
    return out


def add(y: Tensor, x: Tensor, more: Tensor | None) -> None:
    has = more is not None
    _add_kernel[_pieces(y)](_flat(y), _flat(x), _or(more, y), y.numel(), HAS_MORE=has, SIZE=PIECE)


def swiglu(gate: Tensor, up: Tensor, more_gate: Tensor | None, more_up: Tensor | None) -> Tensor:
    out, has = (
        torch.empty_like(_flat(gate)),
        {"HAS_MORE_GATE": more_gate is not None, "HAS_MORE_UP": more_up is not None},
    )
    _swiglu_kernel[_pieces(gate)](
        gate, _flat(up), _or(more_gate, gate), _or(more_up, up), out, gate.numel(), **has, SIZE=PIECE
    )
    return out


def swiglu_backward(gate: Tensor, up: Tensor, d_product: Tensor, more: Tensor | None) -> Tensor:
    out, has = torch.empty_like(_flat(gate)), more is not None
    _swiglu_backward_kernel[_pieces(gate)](
        gate, _flat(up), _flat(d_product), _or(more, gate), out, gate.numel(), HAS_MORE=has, SIZE=PIECE
    )
    return out


def rotate(
    q: Tensor, k: Tensor, v: Tensor, more_q: Tensor | None, more_k: Tensor | None, more_v: Tensor | None,
    cos: Tensor, sin: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return _rotated(q, k, v, more_q, more_k, more_v, cos, sin, back=False)


def rotate_backward(dq: Tensor, dk: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return _rotated(dq, dk, dk, None, None, None, cos, sin, back=True)


def _rotated(
    q: Tensor, k: Tensor, v: Tensor, more_q: Tensor | None, more_k: Tensor | None, more_v: Tensor | None,
    cos: Tensor, sin: Tensor, back: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    out_q, out_k, half = torch.empty_like(_flat(q)), torch.empty_like(_flat(k)), q.shape[2] // 2
    has = {"HAS_MORE_Q": more_q is not None, "HAS_MORE_K": more_k is not None, "HAS_MORE_V": more_v is not None}
    sizes = {n: triton.next_power_of_2(s) for n, s in
             (("Q_HEADS", q.shape[1]), ("K_HEADS", k.shape[1]), ("HALF", half))}  # fmt: skip
    _rotate_kernel[(len(q),)](
        q, k, _flat(v), _or(more_q, q), _or(more_k, k), _or(more_v, v), out_q, out_k, _flat(cos), _flat(sin),
        q.shape[1], k.shape[1], half, BACK=back, **has, **sizes,
    )  # fmt: skip
    return out_q, out_k


KERNELS = {
    "rms_norm": rms_norm,
    "add_": add,
    "add_rms_norm_": add_rms_norm,
    "rms_norm_backward_": rms_norm_backward,
    "swiglu_": swiglu,
    "swiglu_backward_": swiglu_backward,
    "rotate_": rotate,
    "rotate_backward": rotate_backward,
}
