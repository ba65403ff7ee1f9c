"""The products of adapters with rows in blocks, each position's rows with its own matrix."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seal_ray.inner.kernels.operator import Operator
from seal_ray.inner.layout import Block


def _rows(block: Block, x: Tensor) -> Tensor:
    """A block's rows, `[position, length, width]`."""
    return x[block.row : block.stop].view(block.last - block.first, -1, x.shape[-1])


def _rows_by_matrices(out: Tensor, rows: Tensor, matrices: Tensor, blocks: Sequence[Block], add: bool) -> None:
    for block in blocks:
        own, left, right = _rows(block, out), _rows(block, rows), matrices[block.first : block.last]
        if add:
            own.baddbmm_(left, right)
        else:
            torch.bmm(left, right, out=own)


def _rows_by_rows(grad: Tensor, left: Tensor, right: Tensor, blocks: Sequence[Block]) -> None:
    for block in blocks:
        own, of_left, of_right = grad[block.first : block.last], _rows(block, left).mT, _rows(block, right)
        if own.dtype == left.dtype:
            own.baddbmm_(of_left, of_right, beta=0 if block.fresh else 1)
        elif block.fresh:
            own.copy_(torch.bmm(of_left, of_right))
        else:
            own.add_(torch.bmm(of_left, of_right))


# out `[row, out]` becomes, or grows by, each row `[in]` times its position's matrix `[in, out]`
rows_by_matrices = Operator(
    "rows_by_matrices_(Tensor(a!) out, Tensor rows, Tensor matrices, Block[] blocks, bool add) -> ()",
    _rows_by_matrices,
)

# grad `[position, left, right]` becomes, in a position's fresh block, or grows by, the product of its rows
rows_by_rows = Operator(
    "rows_by_rows_(Tensor(a!) grad, Tensor left, Tensor right, Block[] blocks) -> ()", _rows_by_rows
)
