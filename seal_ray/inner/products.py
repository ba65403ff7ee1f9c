"""The products of adapters with their rows: in blocks of texts of one length, or ragged, each adapter's rows together.

Blocks are dense batched products, over rows that are padded; they run anywhere. Ragged rows need one grouped product
for all adapters of a layer, whatever their lengths, and no padding: where launching costs more than computing.
Rows of different adapters never meet in a product, so not even a NaN passes from one to another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from seal_ray.inner.layout import Block


@dataclass(frozen=True)
class Adapters:
    """The adapters of one layer in order of position. Gradients only while training."""

    a: Tensor  # [position, rank, in]
    b: Tensor  # [position, out, rank], times the adapter's alpha / rank
    grad_a: Tensor | None = None
    grad_b: Tensor | None = None  # by the scaled b


class AdaptedRows(Protocol):
    """Which rows of a packed row belong to which adapter."""

    def add(self, y: Tensor, x: Tensor, adapters: Adapters) -> list[Tensor]:
        """Adds every row's adapter to `y` in place; returns the products with A, which the backward needs."""
        ...

    def backward(self, dy: Tensor, dx: Tensor | None, x: Tensor, inner: Sequence[Tensor], adapters: Adapters) -> None:
        """Writes the adapters' gradients and adds their part to `dx` in place."""
        ...


@dataclass(frozen=True)
class BlockRows:
    """Rows in blocks, each a range of positions with texts of one padded length."""

    blocks: Sequence[Block]

    def add(self, y: Tensor, x: Tensor, adapters: Adapters) -> list[Tensor]:
        inner = []
        for block in self.blocks:
            n, at = block.last - block.first, slice(block.first, block.last)
            x_b = x[block.row : block.stop].view(n, -1, x.shape[-1])
            y_b = y[block.row : block.stop].view(n, -1, y.shape[-1])
            h = torch.bmm(x_b, adapters.a[at].mT)
            y_b.baddbmm_(h, adapters.b[at].mT)
            inner.append(h)
        return inner

    def backward(self, dy: Tensor, dx: Tensor | None, x: Tensor, inner: Sequence[Tensor], adapters: Adapters) -> None:
        assert adapters.grad_a is not None and adapters.grad_b is not None
        for block, h in zip(self.blocks, inner, strict=True):
            n, at = block.last - block.first, slice(block.first, block.last)
            dy_b = dy[block.row : block.stop].view(n, -1, dy.shape[-1])
            x_b = x[block.row : block.stop].view(n, -1, x.shape[-1])
            dh = torch.bmm(dy_b, adapters.b[at])
            for grad, part in ((adapters.grad_b, torch.bmm(dy_b.mT, h)), (adapters.grad_a, torch.bmm(dh.mT, x_b))):
                if block.fresh:
                    grad[at].copy_(part)
                else:
                    grad[at].add_(part)
            if dx is not None:
                dx[block.row : block.stop].view(n, -1, dx.shape[-1]).baddbmm_(dh, adapters.a[at])


@dataclass(frozen=True)
class RaggedRows:
    """Rows position by position from the first row on; gradients are added to what is there.

    Every position in the range has rows: on a GPU the gradients of an empty group are whatever was in memory.
    """

    first: int
    last: int
    rows: int
    ends: Tensor  # [position in the range], int32: where each one's rows end

    def add(self, y: Tensor, x: Tensor, adapters: Adapters) -> list[Tensor]:
        at = slice(self.first, self.last)
        h = F.grouped_mm(x[: self.rows], adapters.a[at].mT, offs=self.ends)
        y[: self.rows].add_(F.grouped_mm(h, adapters.b[at].mT, offs=self.ends))
        return [h]

    def backward(self, dy: Tensor, dx: Tensor | None, x: Tensor, inner: Sequence[Tensor], adapters: Adapters) -> None:
        assert adapters.grad_a is not None and adapters.grad_b is not None
        at, (h,) = slice(self.first, self.last), inner
        dy, x = dy[: self.rows], x[: self.rows]
        dh = F.grouped_mm(dy, adapters.b[at], offs=self.ends)
        adapters.grad_b[at].add_(F.grouped_mm(dy.mT, h, offs=self.ends))
        adapters.grad_a[at].add_(F.grouped_mm(dh.mT, x, offs=self.ends))
        if dx is not None:
            dx[: self.rows].add_(F.grouped_mm(dh, adapters.a[at], offs=self.ends))


def ragged_suits(device: torch.device, dtype: torch.dtype, rank: int, widths: Sequence[int]) -> bool:
    """Whether grouped products are to be had and pay: on a GPU from Hopper on, with rows that begin on 16 bytes."""
    if device.type != "cuda" or dtype != torch.bfloat16 or torch.cuda.get_device_capability(device)[0] < 9:
        return False
    return aligned(dtype, rank, widths)


def aligned(dtype: torch.dtype, rank: int, widths: Sequence[int]) -> bool:
    return all(size * dtype.itemsize % 16 == 0 for size in (rank, *widths))
