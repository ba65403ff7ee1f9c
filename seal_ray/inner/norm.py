"""RMS normalisation with a frozen weight, where it stands outside of a decoder block of the usual build."""

from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from seal_ray.inner.kernels.norm import rms_norm, rms_norm_backward


class FrozenNorm(torch.autograd.Function):
    """`weight * x / rms(x)`, computed in float32 and rounded where the models round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:  # type: ignore[override]
        rows = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(rows, weight)
        ctx.eps = eps
        return rms_norm(rows, weight, eps).view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        rows, weight = ctx.saved_tensors
        dx = grads[0].clone(memory_format=torch.contiguous_format)
        rms_norm_backward(dx.view(rows.shape), None, rows, weight, ctx.eps, None)
        return dx, None, None


def rms_norms(decoder: nn.Module) -> dict[Any, float]:
    """The normalisations that `FrozenNorm` can stand in for, with their epsilon: tried out, not guessed by name."""
    norms: dict[Any, float] = {}
    for module in decoder.modules():
        eps = getattr(module, "variance_epsilon", None)
        weight = getattr(module, "weight", None)
        if not isinstance(eps, float) or not isinstance(weight, Tensor) or weight.dim() != 1 or list(module.children()):
            continue
        if len(signature(module.forward).parameters) == 1:  # others are handed a gate as well
            with torch.no_grad():
                x = torch.linspace(-2, 3, 3 * len(weight), device=weight.device, dtype=weight.dtype).view(3, -1)
                if torch.allclose(module(x), rms_norm(x, weight, eps), rtol=2e-2, atol=1e-5):
                    norms[module] = eps
    return norms
