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

    def backward(self, dy: Tensor) -> Tensor:
        dx = dy @ self.weight
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
        ctx.save_for_backward(rows, *adapted.add(y, rows, adapters))
        ctx.beneath, ctx.adapters, ctx.adapted, ctx.shape = beneath, adapters, adapted, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, *inner = ctx.saved_tensors
        dy = grads[0].reshape(-1, grads[0].shape[-1])
        dx = ctx.beneath.backward(dy) if ctx.needs_input_grad[0] else None
        ctx.adapted.backward(dy, dx, x, inner, ctx.adapters)
        return (dx.view(ctx.shape) if dx is not None else None), None, None, None, None


class AddedAdapters(torch.autograd.Function):
    """Adapters on top of what any frozen layer put out (quantised, or one that PEFT has changed in an unusual way)."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, y: Tensor, x: Tensor, anchor: Tensor, adapters: Adapters, adapted: AdaptedRows
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        out = y.reshape(-1, y.shape[-1]).clone()
        ctx.save_for_backward(rows, *adapted.add(out, rows, adapters))
        ctx.adapters, ctx.adapted, ctx.shape = adapters, adapted, x.shape
        return out.view(y.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, *inner = ctx.saved_tensors
        dy = grads[0].reshape(-1, grads[0].shape[-1])
        dx = torch.zeros_like(x) if ctx.needs_input_grad[1] else None
        ctx.adapted.backward(dy, dx, x, inner, ctx.adapters)
        return grads[0], (dx.view(ctx.shape) if dx is not None else None), None, None, None
