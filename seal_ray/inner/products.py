"""The products of adapters with their rows: in blocks of texts of one length, or ragged, each adapter's rows together.

Blocks are dense batched products, over rows that are padded; they run anywhere. Ragged rows need one grouped product
for all adapters of a layer, whatever their lengths, and no padding: where launching costs more than computing.
Layers that read the same rows share one product with all their A: `h` and `dh` hold their parts side by side.
Rows of different adapters never meet in a product, so not even a NaN passes from one to another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from seal_ray.inner.kernels.blocks import rows_by_matrices, rows_by_rows
from seal_ray.inner.kernels.grouped import grouped_gradients
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

    def inner(self, x: Tensor, a: Tensor) -> Tensor:
        """Every row's product with its adapter's A."""
        ...

    def outer(self, ys: Sequence[Tensor], h: Tensor, bs: Sequence[Tensor]) -> list[Tensor | None]:
        """Adds every row's adapter to each of `ys` in place, or returns what is still to be added to it."""
        ...

    def inner_gradient(self, dys: Sequence[Tensor], bs: Sequence[Tensor]) -> Tensor:
        """The gradient of `h`."""
        ...

    def input_gradient(self, dx: Tensor, dh: Tensor, a: Tensor) -> Tensor | None:
        """Adds the adapters' part to the inputs' gradient in place, or returns what is still to be added to it."""
        ...

    def gradient_a(self, x: Tensor, dh: Tensor, grad: Tensor) -> None: ...

    def gradient_b(self, dys: Sequence[Tensor], h: Tensor, grads: Sequence[Tensor]) -> None: ...


@dataclass(frozen=True)
class BlockRows:
    """Rows in blocks, each a range of positions with texts of one padded length."""

    blocks: Sequence[Block]

    def inner(self, x: Tensor, a: Tensor) -> Tensor:
        h = x.new_empty(len(x), a.shape[1])
        rows_by_matrices(h, x, a.mT, self.blocks, False)
        return h

    def outer(self, ys: Sequence[Tensor], h: Tensor, bs: Sequence[Tensor]) -> list[Tensor | None]:
        for y, own, b in zip(ys, _parts(h, len(bs)), bs, strict=True):
            rows_by_matrices(y, own, b.mT, self.blocks, True)
        return [None] * len(ys)

    def inner_gradient(self, dys: Sequence[Tensor], bs: Sequence[Tensor]) -> Tensor:
        dh = dys[0].new_empty(len(dys[0]), sum(b.shape[2] for b in bs))
        for dy, own, b in zip(dys, _parts(dh, len(bs)), bs, strict=True):
            rows_by_matrices(own, dy, b, self.blocks, False)
        return dh

    def input_gradient(self, dx: Tensor, dh: Tensor, a: Tensor) -> Tensor | None:
        rows_by_matrices(dx, dh, a, self.blocks, True)
        return None

    def gradient_a(self, x: Tensor, dh: Tensor, grad: Tensor) -> None:
        rows_by_rows(grad, dh, x, self.blocks)

    def gradient_b(self, dys: Sequence[Tensor], h: Tensor, grads: Sequence[Tensor]) -> None:
        for dy, own, grad in zip(dys, _parts(h, len(dys)), grads, strict=True):
            rows_by_rows(grad, dy, own, self.blocks)


def _parts(h: Tensor, count: int) -> Sequence[Tensor]:
    return h.split(h.shape[-1] // count, dim=-1) if count > 1 else (h,)


@dataclass(frozen=True)
class RaggedRows:
    """Rows position by position from the first row on.

    On a GPU the gradients of a position in the range that has no rows are whatever was in memory; nobody reads them.
    """

    first: int
    last: int
    ends: Tensor  # [position in the range], int32: where each one's rows end
    fresh: bool  # gradients are written, not added

    def inner(self, x: Tensor, a: Tensor) -> Tensor:
        return F.grouped_mm(x, self._of(a).mT, offs=self.ends)

    def outer(self, ys: Sequence[Tensor], h: Tensor, bs: Sequence[Tensor]) -> list[Tensor | None]:
        parts = _parts(h, len(bs))
        return [F.grouped_mm(own, self._of(b).mT, offs=self.ends) for own, b in zip(parts, bs, strict=True)]

    def inner_gradient(self, dys: Sequence[Tensor], bs: Sequence[Tensor]) -> Tensor:
        parts = [F.grouped_mm(dy, self._of(b), offs=self.ends) for dy, b in zip(dys, bs, strict=True)]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def input_gradient(self, dx: Tensor, dh: Tensor, a: Tensor) -> Tensor | None:
        return F.grouped_mm(dh, self._of(a), offs=self.ends)

    def gradient_a(self, x: Tensor, dh: Tensor, grad: Tensor) -> None:
        grouped_gradients(self._of(grad), dh, x, self.ends, self.fresh)

    def gradient_b(self, dys: Sequence[Tensor], h: Tensor, grads: Sequence[Tensor]) -> None:
        for dy, own, grad in zip(dys, _parts(h, len(dys)), grads, strict=True):
            grouped_gradients(self._of(grad), dy, own, self.ends, self.fresh)

    def _of(self, matrices: Tensor) -> Tensor:
        return matrices[self.first : self.last]


def ragged_suits(device: torch.device, dtype: torch.dtype, rank: int, widths: Sequence[int]) -> bool:
    """Whether grouped products are to be had and pay: on a GPU from Hopper on, with rows that begin on 16 bytes."""
    if device.type != "cuda" or dtype != torch.bfloat16 or torch.cuda.get_device_capability(device)[0] < 9:
        return False
    return aligned(dtype, rank, widths)


def aligned(dtype: torch.dtype, rank: int, widths: Sequence[int]) -> bool:
    return all(size * dtype.itemsize % 16 == 0 for size in (rank, *widths))
