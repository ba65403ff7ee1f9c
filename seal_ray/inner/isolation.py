"""Whether texts of one packed row see nothing of each other: tried on a model before a bank uses it.

A bank keeps texts apart in attention and nowhere else. What mixes tokens besides (short convolutions, state spaces,
an attention of the model's own) runs over the whole row, and every candidate would learn from its neighbours unseen.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seal_ray.inner.capacity import out_of_memory
from seal_ray.inner.layout import Text, pack

if TYPE_CHECKING:
    from seal_ray.inner.frozen import Frozen

LENGTH = 4  # tokens of a text: so few that what comes over from its neighbour counts
CHANGE = 1e-3  # of a text's states, as a share of their norm: the rows are the same, so hardly a digit differs
ROUNDED = 5e-2  # in 16 bits or less, where another neighbour may mean another way through experts or outliers
USE = (
    "a bank takes models whose tokens meet in transformers' attention interface and nowhere else, such as Llama, "
    "Qwen2, Qwen3, Phi3, Gemma3 or Olmo3; set model.name to one"
)


@torch.no_grad()
def check_isolation(frozen: "Frozen") -> None:
    """Raises ValueError for a model that can't be run in packed rows. Only while attached."""
    name = type(frozen.base).__name__
    text, one, other = ([(LENGTH * n + i) * 7 % frozen.vocabulary for i in range(LENGTH)] for n in range(3))
    try:
        beside_one, beside_other = (_states(frozen, neighbour, text) for neighbour in (one, other))
    except Exception as error:  # a model of another build fails in ways of its own
        if out_of_memory(error):  # says nothing about the model
            raise
        raise ValueError(
            f"{name} does not run in a bank's packed rows ({type(error).__name__}: {error}); {USE}"
        ) from error
    change = float((beside_one - beside_other).norm() / beside_other.norm())
    exact = frozen.dtype == torch.float32 and not getattr(frozen.base, "is_quantized", False)
    if not change <= (CHANGE if exact else ROUNDED):  # a number that is none is no proof
        raise ValueError(
            f"{name} lets a text see its neighbours in a packed row: its states change by {change:.1%}; {USE}"
        )


def _states(frozen: "Frozen", neighbour: list[int], text: list[int]) -> Tensor:
    """The last hidden states of a text that stands after this neighbour."""
    (layout,) = pack([], [Text(0, neighbour), Text(1, text)], limit=2 * LENGTH, cost=frozen.block_cost)
    return frozen.packed(layout, {})[layout.starts[1] :].float()
