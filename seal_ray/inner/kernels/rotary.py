"""Rotary positions of queries and keys, `[rows, heads, width]`, with cosines and sines `[rows, width]`."""

import torch
from torch import Tensor

from seal_ray.inner.kernels.operator import Operator


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The pairs (i, i + half) turned by their angles."""
    half = x.shape[-1] // 2
    out = x * cos[:, None]
    out[..., :half].addcmul_(x[..., half:], sin[:, None, :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[:, None, half:])
    return out


def _turned_back(g: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = g.shape[-1] // 2
    out = g * cos[:, None]
    out[..., :half].addcmul_(g[..., half:], sin[:, None, half:])
    out[..., half:].addcmul_(g[..., :half], sin[:, None, :half], value=-1)
    return out


def _rotate(
    q: Tensor, k: Tensor, v: Tensor, more_q: Tensor | None, more_k: Tensor | None, more_v: Tensor | None,
    cos: Tensor, sin: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    if more_v is not None:
        v.add_(more_v.view(v.shape))
    q, k = (x if more is None else x + more.view(x.shape) for x, more in ((q, more_q), (k, more_k)))
    return _turned(q, cos, sin), _turned(k, cos, sin)


def _rotate_backward(dq: Tensor, dk: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return _turned_back(dq, cos, sin), _turned_back(dk, cos, sin)


def _empty_pair(q: Tensor, k: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), torch.empty(k.shape, dtype=k.dtype, device=k.device)


# the sums of queries and keys and what is still to be added to them, at their positions; v becomes such a sum
rotate = Operator(
    "rotate_(Tensor q, Tensor k, Tensor(a!) v, Tensor? more_q, Tensor? more_k, Tensor? more_v,"
    " Tensor cos, Tensor sin) -> (Tensor, Tensor)",
    _rotate,
    _empty_pair,
)

rotate_backward = Operator(
    "rotate_backward(Tensor dq, Tensor dk, Tensor cos, Tensor sin) -> (Tensor, Tensor)", _rotate_backward, _empty_pair
)
