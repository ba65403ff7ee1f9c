"""RMS normalisation of a residual stream with a frozen weight, together with what is added to the stream.

Only the stream is kept for the backward, which normalises it again on its way.
"""

import torch
from torch import Tensor

from seal_ray.inner.kernels.operator import Operator


def _unit(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`x / rms(x)` in float32, rounded where the models round; and `1 / rms(x)`."""
    wide = x.to(torch.float32, copy=True)
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return wide.mul_(scale).to(x.dtype), scale


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return _unit(x, eps)[0].mul_(weight)


def _add(y: Tensor, x: Tensor, more: Tensor | None) -> None:
    if more is not None:
        y.add_(more)
    y.add_(x)


def _add_rms_norm(y: Tensor, x: Tensor, more: Tensor | None, weight: Tensor, eps: float) -> Tensor:
    _add(y, x, more)
    return _rms_norm(y, weight, eps)


def _rms_norm_backward(
    dy: Tensor, more: Tensor | None, x: Tensor, weight: Tensor, eps: float, through: Tensor | None
) -> Tensor:
    unit, scale = _unit(x, eps)
    if more is not None:
        dy.add_(more)
    inward, wide = (dy * weight).float(), unit.float()
    along = torch.linalg.vecdot(inward, wide).unsqueeze(-1).div_(-x.shape[-1])
    inward.addcmul_(wide, along).mul_(scale)
    dy.copy_(inward if through is None else inward.add_(through))
    return unit.mul_(weight)


rms_norm = Operator(
    "rms_norm(Tensor x, Tensor weight, float eps) -> Tensor", _rms_norm, lambda x, *_: x.new_empty(x.shape)
)

# y becomes x + y + more
add = Operator("add_(Tensor(a!) y, Tensor x, Tensor? more) -> ()", _add, lambda *_: None)

# y becomes x + y + more; returns that normalised
add_rms_norm = Operator(
    "add_rms_norm_(Tensor(a!) y, Tensor x, Tensor? more, Tensor weight, float eps) -> Tensor",
    _add_rms_norm,
    lambda y, *_: y.new_empty(y.shape),
)

# dy + more is the gradient of the normalised x; dy becomes that of x, and `through`, which comes by another way, with
# it; returns x normalised
rms_norm_backward = Operator(
    "rms_norm_backward_(Tensor(a!) dy, Tensor? more, Tensor x, Tensor weight, float eps, Tensor? through) -> Tensor",
    _rms_norm_backward,
    lambda dy, *_: dy.new_empty(dy.shape),
)
