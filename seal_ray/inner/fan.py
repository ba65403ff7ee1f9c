"""Frozen linear layers that read the same rows (query, key and value; gate and up), and their adapters.

y_i = W_i x + B_i A_i x: the products with all A are one, and so are those of the adapters that lead back to x.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seal_ray.inner.linear import Beneath
from seal_ray.inner.products import AdaptedRows, Adapters


@dataclass(frozen=True)
class Fan:
    """The frozen layers, in the order in which a bank's rows have their A, with no other layer between them."""

    names: tuple[str, ...]
    beneath: tuple[Beneath, ...]

    def with_adapters(self, by_layer: Mapping[str, Adapters], rows: AdaptedRows | None) -> "AdaptedFan":
        members = [i for i, name in enumerate(self.names) if name in by_layer] if rows is not None else []
        return AdaptedFan(self, members, [by_layer[self.names[i]] for i in members], rows)


class AdaptedFan:
    """A fan in one forward and its backward, with the adapters of those of its layers that have some."""

    def __init__(self, fan: Fan, members: list[int], adapters: list[Adapters], rows: AdaptedRows | None) -> None:
        self.fan, self.members, self.adapters = fan, members, adapters
        self.rows = rows if members else None
        self.bs = [own.b for own in adapters]
        self.a = joined([own.a for own in adapters]) if members else None

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor | None], Tensor | None]:
        """What each layer puts out, what is still to be added to it, and the products with the A."""
        ys = [beneath.forward(x) for beneath in self.fan.beneath]
        more: list[Tensor | None] = [None] * len(ys)
        if self.rows is None or self.a is None:
            return ys, more, None
        h = self.rows.inner(x, self.a)
        for i, part in zip(self.members, self.rows.outer(self._own(ys), h, self.bs), strict=True):
            more[i] = part
        return ys, more, h

    def inner_gradient(self, dys: Sequence[Tensor]) -> Tensor | None:
        """The gradient of the products with the A."""
        return None if self.rows is None else self.rows.inner_gradient(self._own(dys), self.bs)

    def input_gradient(self, dys: Sequence[Tensor], dh: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The gradient of x, and what is still to be added to it."""
        dx = None
        for beneath, dy in zip(self.fan.beneath, dys, strict=True):
            dx = beneath.backward(dy, dx)
        assert dx is not None
        if self.rows is None or self.a is None or dh is None:
            return dx, None
        return dx, self.rows.input_gradient(dx, dh, self.a)

    def keep_gradients(self, x: Tensor, dys: Sequence[Tensor], h: Tensor | None, dh: Tensor | None) -> None:
        """Writes the adapters' gradients."""
        if self.rows is None or h is None or dh is None:
            return
        grads = [(own.grad_a, own.grad_b) for own in self.adapters]
        self.rows.gradient_b(self._own(dys), h, [b for _, b in grads if b is not None])
        self.rows.gradient_a(x, dh, joined([a for a, _ in grads if a is not None]))

    def _own(self, of_all: Sequence[Tensor]) -> list[Tensor]:
        return [of_all[i] for i in self.members]


def joined(matrices: Sequence[Tensor]) -> Tensor:
    """Neighbours `[position, rank, in]` in the rows of one tensor as the one matrix that they are there."""
    first = matrices[0]
    count, rank, width = first.shape
    for n, matrix in enumerate(matrices):
        at = first.storage_offset() + n * rank * width
        assert matrix.shape == first.shape and matrix.storage_offset() == at, "they are no neighbours"
    return torch.as_strided(first, (count, len(matrices) * rank, width), first.stride(), first.storage_offset())
