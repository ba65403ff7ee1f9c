"""What a model's layers are given while texts go through it: their inputs, and the gradients of what they put out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seal_ray.inner.frozen import Frozen
from seal_ray.inner.head import loss_and_gradient
from seal_ray.inner.layout import Text, pack
from seal_ray.inner.products import Adapters
from seal_ray.inner.training_text import TrainingText


@dataclass
class LayerStatistics:
    """Of one layer, over all tokens of all texts."""

    rows: list[Tensor] = field(default_factory=list)
    squared_in: list[Tensor] = field(default_factory=list)
    squared_out: list[Tensor] = field(default_factory=list)

    @property
    def inputs(self) -> Tensor:
        """`[token, in]`"""
        return torch.cat(self.rows).float()

    @property
    def inputs_squared(self) -> Tensor:
        return torch.stack(self.squared_in).sum(0)

    @property
    def gradients_squared(self) -> Tensor:
        return torch.stack(self.squared_out).sum(0)


def observe(
    frozen: Frozen,
    adapters: Mapping[str, Adapters],
    layers: Sequence[str],
    texts: Sequence[TrainingText],
    with_gradients: bool,
) -> Mapping[str, LayerStatistics]:
    """Of each layer that a text came by. Takes each text through the model by itself, so that no padding is among what
    is seen. Only while attached.

    With gradients the inputs are summed up as squares, without they are kept row by row.
    """
    seen = {name: LayerStatistics() for name in layers}
    with _listening(frozen, seen, with_gradients):
        for text in texts:
            for layout in pack([[Text(0, text.ids)]], limit=len(text.ids), cost=frozen.block_cost):
                with torch.set_grad_enabled(with_gradients):
                    hidden = frozen.packed(layout, adapters)
                if with_gradients:
                    _backward(frozen, hidden, text)
    return {name: own for name, own in seen.items() if own.rows or own.squared_out}


@contextmanager
def _listening(frozen: Frozen, seen: Mapping[str, LayerStatistics], with_gradients: bool) -> Iterator[None]:
    def listen(name: str) -> Any:
        def hook(_layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x = inputs[0].detach().reshape(-1, inputs[0].shape[-1])
            if not with_gradients:
                seen[name].rows.append(x)  # as it is there: layers that read the same rows hold them once
                return
            seen[name].squared_in.append(x.float().square().sum(0))
            output.register_hook(
                lambda g: seen[name].squared_out.append(g.reshape(-1, g.shape[-1]).float().square().sum(0))
            )

        return frozen.layers[name].register_forward_hook(hook)

    handles = [listen(name) for name in seen]
    frozen.by_layer = True
    try:
        yield
    finally:
        frozen.by_layer = False
        for handle in handles:
            handle.remove()


def _backward(frozen: Frozen, hidden: Tensor, text: TrainingText) -> None:
    """The gradient of the text's loss, as it is summed over its tokens."""
    at = torch.tensor(text.labelled, device=hidden.device) - 1
    wanted = torch.tensor([text.ids[i] for i in text.labelled], device=hidden.device)
    weight = torch.ones(len(wanted), device=hidden.device)
    _, gradient = loss_and_gradient(frozen.head, hidden.detach()[at], wanted, None, weight)
    hidden.backward(torch.zeros_like(hidden).index_copy_(0, at, gradient))
