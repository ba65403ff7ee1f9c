"""Dropout of adapters' inputs, drawn from what it belongs to: an adapter's seed, step, text, token and layer.

No stream of random numbers is shared, so that what is left out depends neither on an adapter's neighbours nor on how
texts are packed, and a plain loop over one candidate can draw the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seal_ray.inner.products import AdaptedRows
from seal_ray.records import derive_seed

PLACES = 2**20  # tokens of a text, at most
ODD = (-7046029254386353131, -4265267296055464877)  # mixing constants, as signed 64-bit numbers


def text_key(seed: int, step: int, text: int) -> int:
    """What all tokens of a text draw from in one optimiser step of an adapter."""
    return derive_seed(seed, "dropout", step, text) * PLACES


def kept(keys: Tensor, rates: Tensor, layer: str, width: int) -> Tensor:
    """What each row's inputs to a layer's adapter are multiplied by, `[row, width]`: 0, or what makes up for the zeros.

    A row's key is that of its text plus its place in it.
    """
    places = torch.arange(width, device=keys.device) * ODD[0] + derive_seed("layer", layer)
    mixed = (keys[:, None] * ODD[1]) ^ places[None]
    for shift, odd in ((29, ODD[0]), (32, ODD[1])):
        mixed = (mixed ^ ((mixed >> shift) & (2 ** (64 - shift) - 1))) * odd
    draws = ((mixed >> 40) & 0xFFFFFF).float() / 2**24
    return (draws >= rates[:, None]).float() / (1 - rates[:, None])


@dataclass(frozen=True)
class Dropout:
    """Of one forward: what each of its rows draws from, and how much of it is left out."""

    keys: Tensor  # [row], int64
    rates: Tensor  # [row], float32

    @staticmethod
    def of(rows: int, texts: Sequence[tuple[int, int, int, float]], device: torch.device) -> "Dropout":
        """`texts`: each one's first row, its length, its key and its rate."""
        keys, rates = torch.zeros(rows, dtype=torch.int64), torch.zeros(rows)
        for start, length, key, rate in texts:
            keys[start : start + length] = torch.arange(key, key + length)
            rates[start : start + length] = rate
        return Dropout(keys.to(device, non_blocking=True), rates.to(device, non_blocking=True))

    def over(self, layer: str, adapted: AdaptedRows) -> "DroppedRows":
        return DroppedRows(adapted, self, layer)


@dataclass(frozen=True)
class DroppedRows:
    """Adapters that see only a part of their inputs. What is left out is drawn again in the backward, and not kept."""

    adapted: AdaptedRows
    dropout: Dropout
    layer: str

    def inner(self, x: Tensor, a: Tensor) -> Tensor:
        return self.adapted.inner(x * self._kept(x), a)

    def outer(self, ys: Sequence[Tensor], h: Tensor, bs: Sequence[Tensor]) -> list[Tensor | None]:
        return self.adapted.outer(ys, h, bs)

    def inner_gradient(self, dys: Sequence[Tensor], bs: Sequence[Tensor]) -> Tensor:
        return self.adapted.inner_gradient(dys, bs)

    def input_gradient(self, dx: Tensor, dh: Tensor, a: Tensor) -> Tensor | None:
        part = torch.zeros_like(dx)
        more = self.adapted.input_gradient(part, dh, a)
        return (part if more is None else more).mul_(self._kept(dx))

    def gradient_a(self, x: Tensor, dh: Tensor, grad: Tensor) -> None:
        self.adapted.gradient_a(x * self._kept(x), dh, grad)

    def gradient_b(self, dys: Sequence[Tensor], h: Tensor, grads: Sequence[Tensor]) -> None:
        self.adapted.gradient_b(dys, h, grads)

    def _kept(self, x: Tensor) -> Tensor:
        return kept(self.dropout.keys, self.dropout.rates, self.layer, x.shape[-1]).to(x.dtype)
