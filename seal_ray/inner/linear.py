"""A frozen linear layer with one adapter for each block of rows: y = W x + B_i A_i x, forward and backward.

The adapters' gradients are written straight into the bank's float32 gradient, so autograd knows only the
activations. Rows of different adapters never meet in a product, so not even a NaN passes from one to another.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seal_ray.inner.products import AdaptedRows, Adapters


@dataclass(frozen=True)
class Beneath:
    """What a layer computes without the bank: plain weights and, over them, the policy's adapter if it has one."""

    weight: Tensor  # [out, in]
    bias: Tensor | None
    policy: tuple[Tensor, Tensor] | None = None  # [rank, in] and, with its scale, [out, rank]

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight, self.bias)
        if self.policy is not None:
            a, b = self.policy
            y.addmm_(x @ a.mT, b.mT)
        return y

    def backward(self, dy: Tensor, dx: Tensor | None = None) -> Tensor:
        """The gradient of x, added to what is there already."""
        dx = dy @ self.weight if dx is None else dx.addmm_(dy, self.weight)
        if self.policy is not None:
            a, b = self.policy
            dx.addmm_(dy @ b, a)
        return dx


class AdaptedLinear(torch.autograd.Function):
    """A frozen linear layer of plain weights and its adapters in one node."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, anchor: Tensor, beneath: Beneath, adapters: Adapters, adapted: AdaptedRows
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        y = beneath.forward(rows)
        ctx.save_for_backward(rows, _add(y, rows, adapters, adapted))
        ctx.beneath, ctx.adapters, ctx.adapted, ctx.shape = beneath, adapters, adapted, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        dy = grads[0].reshape(-1, grads[0].shape[-1])
        dx = ctx.beneath.backward(dy) if ctx.needs_input_grad[0] else None
        x, h = ctx.saved_tensors
        _backward(dy, dx, x, h, ctx.adapters, ctx.adapted)
        return (dx.view(ctx.shape) if dx is not None else None), None, None, None, None


class AddedAdapters(torch.autograd.Function):
    """Adapters on top of what any frozen layer put out (quantised, or one that PEFT has changed in an unusual way)."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, y: Tensor, x: Tensor, anchor: Tensor, adapters: Adapters, adapted: AdaptedRows
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        out = y.reshape(-1, y.shape[-1]).clone()
        ctx.save_for_backward(rows, _add(out, rows, adapters, adapted))
        ctx.adapters, ctx.adapted, ctx.shape = adapters, adapted, x.shape
        return out.view(y.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        dy = grads[0].reshape(-1, grads[0].shape[-1])
        dx = torch.zeros(len(dy), ctx.shape[-1], dtype=dy.dtype, device=dy.device) if ctx.needs_input_grad[1] else None
        x, h = ctx.saved_tensors
        _backward(dy, dx, x, h, ctx.adapters, ctx.adapted)
        return grads[0], (dx.view(ctx.shape) if dx is not None else None), None, None, None


def _add(y: Tensor, x: Tensor, adapters: Adapters, adapted: AdaptedRows) -> Tensor:
    """Adds every row's adapter to `y` in place; returns the products with A, which the backward needs."""
    h = adapted.inner(x, adapters.a)
    (more,) = adapted.outer([y], h, [adapters.b])
    if more is not None:
        y.add_(more)
    return h


def _backward(dy: Tensor, dx: Tensor | None, x: Tensor, h: Tensor, adapters: Adapters, adapted: AdaptedRows) -> None:
    """Writes the adapters' gradients and adds their part to `dx` in place."""
    assert adapters.grad_a is not None and adapters.grad_b is not None
    dh = adapted.inner_gradient([dy], [adapters.b])
    adapted.gradient_b([dy], h, [adapters.grad_b])
    adapted.gradient_a(x, dh, adapters.grad_a)
    more = adapted.input_gradient(dx, dh, adapters.a) if dx is not None else None
    if dx is not None and more is not None:
        dx.add_(more)
