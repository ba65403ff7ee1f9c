"""The parameters of a bank's adapters as one flat row each: shapes, views by layer, and what a row starts as.

All rows of a bank have the same layout, with the largest rank of any adapter. A smaller adapter is filled up with
zeros in A and in B: their gradients are zero, so they stay zero, and so does a layer that an adapter does not target.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seal_ray.inner.products import Adapters
from seal_ray.inner.recipe import first_a


@dataclass(frozen=True)
class Stack:
    """Where in a row the matrices of each layer lie: all A before all B."""

    widths: Mapping[str, tuple[int, int]]  # layer -> (in, out)
    rank: int
    a_at: dict[str, int] = field(default_factory=dict)
    b_at: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of(layers: Mapping[str, Any], names: Sequence[str], rank: int) -> "Stack":
        stack = Stack({n: (layers[n].in_features, layers[n].out_features) for n in names}, rank)
        at = 0
        for name, (width_in, _) in stack.widths.items():
            stack.a_at[name] = at
            at += rank * width_in
        for name, (_, width_out) in stack.widths.items():
            stack.b_at[name] = at
            at += rank * width_out
        return stack

    @property
    def split(self) -> int:
        """Where B begins."""
        return self.rank * sum(width_in for width_in, _ in self.widths.values())

    @property
    def size(self) -> int:
        return self.rank * sum(width_in + width_out for width_in, width_out in self.widths.values())

    def a(self, rows: Tensor, layer: str) -> Tensor:
        """`[adapter, rank, in]` of rows `[adapter, size]`."""
        width, at = self.widths[layer][0], self.a_at[layer]
        return rows[:, at : at + self.rank * width].view(-1, self.rank, width)

    def b(self, rows: Tensor, layer: str) -> Tensor:
        """`[adapter, out, rank]` of rows `[adapter, size]`."""
        width, at = self.widths[layer][1], self.b_at[layer]
        return rows[:, at : at + self.rank * width].view(-1, width, self.rank)

    def trained(
        self, rows: Tensor, slots: Sequence[int], scale: Tensor, dtype: torch.dtype, grads: Tensor
    ) -> dict[str, Adapters]:
        """The rows of `slots` by layer in that order; `grads` are in that order.

        One copy for all layers, in the type that is computed in and with B scaled: what follows are views of it.
        """
        copies = torch.empty(len(slots), self.size, dtype=dtype, device=rows.device)
        for copy, slot, by in zip(copies, slots, scale, strict=True):  # each to its place, never all in float32
            copy[: self.split].copy_(rows[slot, : self.split])
            torch.mul(rows[slot, self.split :], by, out=copy[self.split :])
        return self.views(copies, grads)

    def views(self, rows: Tensor, grads: Tensor) -> dict[str, Adapters]:
        """Rows as they are computed with and their gradients, by layer."""
        return {
            name: Adapters(self.a(rows, name), self.b(rows, name), self.a(grads, name), self.b(grads, name))
            for name in self.widths
        }

    def unscaled(self, grads: Tensor, scale: Tensor) -> None:
        """Makes of the gradients by the scaled B those by B itself, in place."""
        grads[:, self.split :].mul_(scale[:, None])

    def finished(self, rows: Sequence[Tensor], scale: Tensor) -> dict[str, Adapters]:
        """Adapters that are not trained any more, by layer, on the device of their scales."""
        chosen = torch.empty(len(rows), self.size, dtype=rows[0].dtype, device=scale.device)
        for place, row in zip(chosen, rows, strict=True):  # each to its place: on the device they are only once
            place.copy_(row, non_blocking=True)
        chosen[:, self.split :].mul_(scale[:, None])
        return {name: Adapters(self.a(chosen, name), self.b(chosen, name)) for name in self.widths}

    def start(self, row: Tensor, layers: Collection[str], rank: int, seed: int) -> None:
        """Writes an adapter's first weights into a row of zeros."""
        rows = row[None]
        for name in layers:
            self.a(rows, name)[0, :rank] = first_a(name, rank, self.widths[name][0], seed, row.device)
