"""The gradients of many adapters' matrices, each from its own rows, written to where they are kept."""

from torch import Tensor
from torch.nn import functional as F

from seal_ray.inner.kernels.operator import Operator


def _grouped_gradients(grad: Tensor, left: Tensor, right: Tensor, ends: Tensor, fresh: bool) -> None:
    product = F.grouped_mm(left.mT, right, offs=ends)
    if fresh:
        grad.copy_(product)
    else:
        grad.add_(product)


# grad `[group, out, in]` becomes, or grows by, the products of each group's rows of left `[row, out]` and right
# `[row, in]`; a group's rows end at its number in `ends`. That of a group without rows is left undefined
grouped_gradients = Operator(
    "grouped_gradients_(Tensor(a!) grad, Tensor left, Tensor right, Tensor ends, bool fresh) -> ()",
    _grouped_gradients,
    lambda *_: None,
)
