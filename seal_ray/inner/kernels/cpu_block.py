"""A bank's operations on a CPU as compiled loops, in float32; what has another type or shape is left to plain torch."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seal_ray.inner.kernels.operator import OPERATORS
from seal_ray.inner.kernels.short_attention import shares_size
from seal_ray.inner.layout import Block

TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_long, "f": ctypes.c_float, "b": ctypes.c_bool}
# of a function's arguments: pointers, whole numbers, numbers, yes or no
ARGUMENTS = {
    "normalise": "ppppllfl",
    "normalise_backward": "pppppllfl",
    "swiglu": "pppll",
    "swiglu_backward": "ppppll",
    "rotate": "pppplllbl",
    "rows_by_matrices": "plplplllllplbl",
    "rows_by_rows": "plplplllpll",
    "attention": "ppppplllplfl",
    "attention_backward": "pppppppplllplfl",
    "vocabulary_loss": "ppplll",
}


class CpuBlock:
    """The library's functions as kernels."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._functions: dict[str, Callable[..., None]] = {}
        for name, letters in ARGUMENTS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = [TYPES[letter] for letter in letters], None
            self._functions[name] = function

    def kernels(self) -> dict[str, Callable[..., Any]]:
        """By the name of their operation."""
        return {
            "rms_norm": self.rms_norm,
            "add_rms_norm_": self.add_rms_norm,
            "rms_norm_backward_": self.rms_norm_backward,
            "swiglu_": self.swiglu,
            "swiglu_backward_": self.swiglu_backward,
            "rotate_": self.rotate,
            "rotate_backward": self.rotate_backward,
            "rows_by_matrices_": self.rows_by_matrices,
            "rows_by_rows_": self.rows_by_rows,
            "short_attention": self.attention,
            "short_attention_backward": self.attention_backward,
            "vocabulary_loss_": self.vocabulary_loss,
        }

    def _call(self, name: str, *args: Any) -> None:
        numbers = (a.data_ptr() if isinstance(a, Tensor) else a for a in args)
        self._functions[name](*numbers, torch.get_num_threads())

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        if not _plain_rows(x, weight):
            return OPERATORS["rms_norm"].plain(x, weight, eps)
        out = torch.empty_like(x)
        self._call("normalise", x, None, weight, out, *x.shape, eps)
        return out

    def add_rms_norm(self, y: Tensor, x: Tensor, more: Tensor | None, weight: Tensor, eps: float) -> Tensor:
        if more is not None or not _plain_rows(y, x, weight):
            return OPERATORS["add_rms_norm_"].plain(y, x, more, weight, eps)
        out = torch.empty_like(y)
        self._call("normalise", y, x, weight, out, *y.shape, eps)
        return out

    def rms_norm_backward(
        self, dy: Tensor, more: Tensor | None, x: Tensor, weight: Tensor, eps: float, through: Tensor | None
    ) -> Tensor:
        if more is not None or not _plain_rows(dy, x, weight):
            return OPERATORS["rms_norm_backward_"].plain(dy, more, x, weight, eps, through)
        out, through = torch.empty_like(x), None if through is None else through.contiguous()
        self._call("normalise_backward", dy, x, weight, through, out, *x.shape, eps)
        return out

    def swiglu(self, gate: Tensor, up: Tensor, more_gate: Tensor | None, more_up: Tensor | None) -> Tensor:
        if more_gate is not None or more_up is not None or not _plain_rows(gate, up):
            return OPERATORS["swiglu_"].plain(gate, up, more_gate, more_up)
        out = torch.empty_like(gate)
        self._call("swiglu", gate, up, out, gate.numel())
        return out

    def swiglu_backward(self, gate: Tensor, up: Tensor, d_product: Tensor, more: Tensor | None) -> Tensor:
        if more is not None or not _plain_rows(gate, up, d_product):
            return OPERATORS["swiglu_backward_"].plain(gate, up, d_product, more)
        out = torch.empty_like(gate)
        self._call("swiglu_backward", gate, up, d_product, out, gate.numel())
        return out

    def rotate(
        self, q: Tensor, k: Tensor, v: Tensor, more_q: Tensor | None, more_k: Tensor | None, more_v: Tensor | None,
        cos: Tensor, sin: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        if not (more_q is more_k is more_v is None and _plain_rows(q, k, cos, sin)):
            return OPERATORS["rotate_"].plain(q, k, v, more_q, more_k, more_v, cos, sin)
        return self._turned(q, cos, sin, back=False), self._turned(k, cos, sin, back=False)

    def rotate_backward(self, dq: Tensor, dk: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        if not _plain_rows(dq, dk, cos, sin):
            return OPERATORS["rotate_backward"].plain(dq, dk, cos, sin)
        return self._turned(dq, cos, sin, back=True), self._turned(dk, cos, sin, back=True)

    def _turned(self, x: Tensor, cos: Tensor, sin: Tensor, back: bool) -> Tensor:
        out, (rows, heads, width) = torch.empty_like(x), x.shape
        self._call("rotate", x, cos, sin, out, rows, heads, width // 2, back)
        return out

    def rows_by_matrices(self, out: Tensor, rows: Tensor, matrices: Tensor, blocks: Sequence[Block], add: bool) -> None:
        if not (_close_rows(out, rows) and matrices.dtype == torch.float32):
            return OPERATORS["rows_by_matrices_"].plain(out, rows, matrices, blocks, add)
        self._call(
            "rows_by_matrices", out, out.stride(0), rows, rows.stride(0), matrices, *matrices.stride(),
            rows.shape[1], out.shape[1], _adapted(blocks), len(blocks), add,
        )  # fmt: skip
        return None

    def rows_by_rows(self, grad: Tensor, left: Tensor, right: Tensor, blocks: Sequence[Block]) -> None:
        close = grad.dtype == torch.float32 and grad.stride()[1:] == (grad.shape[2], 1)
        if not (close and _close_rows(left, right)):
            return OPERATORS["rows_by_rows_"].plain(grad, left, right, blocks)
        self._call(
            "rows_by_rows", grad, grad.stride(0), left, left.stride(0), right, right.stride(0), left.shape[1],
            right.shape[1], _adapted(blocks), len(blocks),
        )  # fmt: skip
        return None

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, blocks: Sequence[Block], scaling: float, masks: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        if any(mask is not None for mask in masks) or not _float32(q, k, v):
            return OPERATORS["short_attention"].plain(q, k, v, blocks, scaling, masks)
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out, shares = torch.empty_like(q), q.new_empty(shares_size(blocks, q.shape[1]))
        self._call("attention", q, k, v, out, shares, *_heads(q, k), _texts(blocks), len(blocks), scaling)
        return out, shares

    def attention_backward(
        self, d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, shares: Tensor, blocks: Sequence[Block], scaling: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        if not _float32(d_out, q, k, v, shares):
            return OPERATORS["short_attention_backward"].plain(d_out, q, k, v, shares, blocks, scaling)
        read = [x.contiguous() for x in (q, k, v, shares, d_out)]
        d_q, d_k, d_v = (torch.empty_like(x) for x in read[:3])
        of_blocks = _texts(blocks), len(blocks)
        self._call("attention_backward", *read, d_q, d_k, d_v, *_heads(q, k), *of_blocks, scaling)
        return d_q, d_k, d_v

    def vocabulary_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if not (_plain_rows(logits) and targets.dtype == torch.int64):
            return OPERATORS["vocabulary_loss_"].plain(logits, targets)
        losses = logits.new_empty(len(logits))
        self._call("vocabulary_loss", logits, targets.contiguous(), losses, *logits.shape)
        return losses


def _float32(*tensors: Tensor) -> bool:
    return all(t.dtype == torch.float32 for t in tensors)


def _plain_rows(*tensors: Tensor) -> bool:
    """Numbers of one type that lie behind each other."""
    return all(t.dtype == torch.float32 and t.is_contiguous() for t in tensors)


def _close_rows(*tensors: Tensor) -> bool:
    """Rows whose own numbers lie behind each other."""
    return all(t.dtype == torch.float32 and t.stride(1) == 1 for t in tensors)


def _heads(q: Tensor, k: Tensor) -> tuple[int, int, int]:
    return q.shape[1], k.shape[1], q.shape[2]


def _adapted(blocks: Sequence[Block]) -> ctypes.Array[ctypes.c_long]:
    """Where each block's rows begin, how many are a position's, its positions, and whether they are fresh."""
    numbers = [n for b in blocks for n in
               (b.row, (b.stop - b.row) // (b.last - b.first), b.first, b.last, b.fresh)]  # fmt: skip
    return (ctypes.c_long * len(numbers))(*numbers)


def _texts(blocks: Sequence[Block]) -> ctypes.Array[ctypes.c_long]:
    numbers = [n for b in blocks for n in (b.row, b.length, b.texts)]
    return (ctypes.c_long * len(numbers))(*numbers)
