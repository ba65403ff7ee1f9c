# pyright: reportMissingImports=false, reportIndexIssue=false
"""Gradients of adapters' matrices as a Triton kernel.

One launch where a grouped product takes two and its copy to where gradients are kept a third.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

MOST, LEAST = 64, 16  # width of a tile
DEPTH = 32  # rows that are multiplied at once
INTERPRETED = bool(triton.knobs.runtime.interpret)  # the interpreter multiplies no bfloat16


@triton.jit
def _gradients_kernel(
    grad, left, right, ends, out, into, grad_stride, left_stride, right_stride,
    FRESH: tl.constexpr, WIDE: tl.constexpr, OUT: tl.constexpr, INTO: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """A program has a tile of a group's gradient. A group without rows gets zeros."""
    group = tl.program_id(2)
    start = tl.load(ends + group - 1, mask=group > 0, other=0)
    stop = tl.load(ends + group)
    o, i = tl.program_id(0) * OUT + tl.arange(0, OUT), tl.program_id(1) * INTO + tl.arange(0, INTO)
    total = tl.zeros((OUT, INTO), tl.float32)
    for first in range(start, stop, ROWS):
        row = first + tl.arange(0, ROWS).to(tl.int64)
        own = (row < stop)[:, None]
        x = tl.load(left + row[:, None] * left_stride + o[None], mask=own & (o < out)[None], other=0.0)
        y = tl.load(right + row[:, None] * right_stride + i[None], mask=own & (i < into)[None], other=0.0)
        if WIDE:
            x = x.to(tl.float32)
            y = y.to(tl.float32)
        total += tl.dot(tl.trans(x), y, input_precision="ieee")
    at = grad + group.to(tl.int64) * grad_stride + o[:, None] * into + i[None]
    inside = (o < out)[:, None] & (i < into)[None]
    if not FRESH:
        total += tl.load(at, mask=inside, other=0.0).to(tl.float32)
    tl.store(at, total.to(grad.dtype.element_ty), mask=inside)


def grouped_gradients(grad: Tensor, left: Tensor, right: Tensor, ends: Tensor, fresh: bool) -> None:
    groups, out, into = grad.shape
    assert grad.stride()[1:] == (into, 1) and left.stride(1) == right.stride(1) == 1, "rows lie close"
    tile = [min(MOST, max(LEAST, triton.next_power_of_2(width))) for width in (out, into)]
    _gradients_kernel[(triton.cdiv(out, tile[0]), triton.cdiv(into, tile[1]), groups)](
        grad, left, right, ends, out, into, grad.stride(0), left.stride(0), right.stride(0),
        FRESH=fresh, WIDE=INTERPRETED, OUT=tile[0], INTO=tile[1], ROWS=DEPTH,
    )  # fmt: skip


KERNELS: dict[str, Any] = {"grouped_gradients_": grouped_gradients}
