"""A frozen linear layer with one adapter for each block of rows: y = W x + B_i A_i x, forward and backward.

The adapters' gradients are written straight into the bank's float32 gradient, so autograd knows only the
activations. Rows of different adapters never meet in a product, so not even a NaN passes from one to another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seal_ray.inner.layout import Block


@dataclass(frozen=True)
class Adapters:
    """The adapters of one layer in order of position. Gradients only while training."""

    a: Tensor  # [position, rank, in]
    b: Tensor  # [position, out, rank]
    scale: Tensor  # alpha / rank, [position, 1, 1]
    grad_a: Tensor | None = None
    grad_b: Tensor | None = None

    def scaled(self, inner: Tensor, block: Block) -> Tensor:
        """A product of rank's width times the block's scale, in place: the smallest tensor to put it into."""
        return inner.mul_(self.scale[block.first : block.last])


def add_adapters(y: Tensor, x: Tensor, adapters: Adapters, blocks: Sequence[Block]) -> list[Tensor]:
    """Adds each block's adapters to `y` in place; returns the products with A, which the backward needs."""
    inner = []
    for block in blocks:
        n = block.last - block.first
        x_b = x[block.row : block.stop].view(n, -1, x.shape[-1])
        y_b = y[block.row : block.stop].view(n, -1, y.shape[-1])
        h = adapters.scaled(torch.bmm(x_b, adapters.a[block.first : block.last].mT), block)
        y_b.baddbmm_(h, adapters.b[block.first : block.last].mT)
        inner.append(h)
    return inner


def _backward(
    dy: Tensor, dx: Tensor | None, x: Tensor, inner: Sequence[Tensor], adapters: Adapters, blocks: Sequence[Block]
) -> None:
    """Writes the adapters' gradients and adds their part to `dx` in place."""
    assert adapters.grad_a is not None and adapters.grad_b is not None
    for block, h in zip(blocks, inner, strict=True):
        n, at = block.last - block.first, slice(block.first, block.last)
        dy_b = dy[block.row : block.stop].view(n, -1, dy.shape[-1])
        x_b = x[block.row : block.stop].view(n, -1, x.shape[-1])
        dh = adapters.scaled(torch.bmm(dy_b, adapters.b[at]), block)
        for grad, part in ((adapters.grad_b, torch.bmm(dy_b.mT, h)), (adapters.grad_a, torch.bmm(dh.mT, x_b))):
            if block.fresh:
                grad[at].copy_(part)
            else:
                grad[at].add_(part)
        if dx is not None:
            dx[block.row : block.stop].view(n, -1, dx.shape[-1]).baddbmm_(dh, adapters.a[at])


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
        ctx: Any, x: Tensor, anchor: Tensor, beneath: Beneath, adapters: Adapters, blocks: Sequence[Block]
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        y = beneath.forward(rows)
        ctx.save_for_backward(rows, *add_adapters(y, rows, adapters, blocks))
        ctx.beneath, ctx.adapters, ctx.blocks, ctx.shape = beneath, adapters, blocks, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, *inner = ctx.saved_tensors
        dy = grads[0].reshape(-1, grads[0].shape[-1])
        dx = ctx.beneath.backward(dy) if ctx.needs_input_grad[0] else None
        _backward(dy, dx, x, inner, ctx.adapters, ctx.blocks)
        return (dx.view(ctx.shape) if dx is not None else None), None, None, None, None


class AddedAdapters(torch.autograd.Function):
    """Adapters on top of what any frozen layer put out (quantised, or one that PEFT has changed in an unusual way)."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, y: Tensor, x: Tensor, anchor: Tensor, adapters: Adapters, blocks: Sequence[Block]
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        out = y.reshape(-1, y.shape[-1]).clone()
        ctx.save_for_backward(rows, *add_adapters(out, rows, adapters, blocks))
        ctx.adapters, ctx.blocks, ctx.shape = adapters, blocks, x.shape
        return out.view(y.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, *inner = ctx.saved_tensors
        dy = grads[0].reshape(-1, grads[0].shape[-1])
        dx = torch.zeros_like(x) if ctx.needs_input_grad[1] else None
        _backward(dy, dx, x, inner, ctx.adapters, ctx.blocks)
        return grads[0], (dx.view(ctx.shape) if dx is not None else None), None, None, None
