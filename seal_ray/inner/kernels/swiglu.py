"""The gated unit of a decoder block: `silu(gate) * up`. The product is not kept: the backward makes it again."""

import torch
from torch import Tensor
from torch.nn import functional as F

from seal_ray.inner.kernels.operator import Operator


def _swiglu(gate: Tensor, up: Tensor, more_gate: Tensor | None, more_up: Tensor | None) -> Tensor:
    if more_gate is not None:
        gate.add_(more_gate)
    if more_up is not None:
        up.add_(more_up)
    return F.silu(gate).mul_(up)


def _swiglu_backward(gate: Tensor, up: Tensor, d_product: Tensor, more: Tensor | None) -> Tensor:
    if more is not None:
        d_product.add_(more)
    open_gate = F.silu(gate)
    passing = d_product * up
    torch.ops.aten.silu_backward.grad_input(passing, gate, grad_input=gate)
    product = torch.mul(open_gate, up, out=passing)
    torch.mul(d_product, open_gate, out=up)
    return product


# gate and up become their sums with what is still to be added to them; returns their product
swiglu = Operator(
    "swiglu_(Tensor(a!) gate, Tensor(b!) up, Tensor? more_gate, Tensor? more_up) -> Tensor",
    _swiglu,
    lambda gate, *_: gate.new_empty(gate.shape),
)

# gate and up become their gradients; returns what the forward returned
swiglu_backward = Operator(
    "swiglu_backward_(Tensor(a!) gate, Tensor(b!) up, Tensor d_product, Tensor? more) -> Tensor",
    _swiglu_backward,
    lambda gate, *_: gate.new_empty(gate.shape),
)
