"""Dropout of adapters' inputs, drawn from what it belongs to: an adapter's seed, step, text, token and layer.

No stream of random numbers is shared, so that what is left out depends neither on an adapter's neighbours nor on how
texts are packed, and a plain loop over one candidate can draw the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seal_ray.inner.products import AdaptedRows, Adapters
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

    def add(self, y: Tensor, x: Tensor, adapters: Adapters) -> list[Tensor]:
        return self.adapted.add(y, x * self._kept(x), adapters)

    def backward(self, dy: Tensor, dx: Tensor | None, x: Tensor, inner: Sequence[Tensor], adapters: Adapters) -> None:
        share = self._kept(x)
        part = None if dx is None else torch.zeros_like(dx)
        self.adapted.backward(dy, part, x * share, inner, adapters)
        if dx is not None and part is not None:
            dx.add_(part * share)

    def _kept(self, x: Tensor) -> Tensor:
        return kept(self.dropout.keys, self.dropout.rates, self.layer, x.shape[-1]).to(x.dtype)
