"""AdamW for the adapters in a bank's slots, each with its own clip, learning rate, step and bias correction.

The one place where weights change. Moments stand beside the float32 master weights, one flat row a slot.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from seal_ray.records import Recipe


class Adam:
    """What AdamW keeps of every slot. A slot begins anew when another adapter takes it."""

    def __init__(self, master: Tensor) -> None:
        self.master = master
        self.first = torch.zeros_like(master)
        self.second = torch.zeros_like(master)
        self.steps = torch.zeros(len(master), 1, device=master.device)
        self.limits = torch.full((len(master),), float("inf"), device=master.device)
        self._recipes: dict[int, Recipe] = {}

    def begin(self, slot: int, recipe: Recipe) -> None:
        """Another adapter is in the slot, whose first weights are in the master's row."""
        self._recipes[slot] = recipe
        for state in (self.first, self.second, self.steps):
            state[slot].zero_()
        self.limits[slot] = recipe.clip or float("inf")

    def step(self, slots: Sequence[int], index: Tensor, grads: Tensor, rates: Sequence[float]) -> Tensor:
        """One step of the adapters in `slots` (`index`, on the device), whose gradients are the first rows of `grads`.

        Returns each one's gradient norm. An adapter whose norm is not finite is left as it was.
        """
        norms = torch.stack(torch._foreach_norm(list(grads[: len(slots)].unbind())))
        # the fused step divides gradients by this, which is what clip_grad_norm_ multiplies by, upside down
        divisors = ((norms + 1e-6) / self.limits.index_select(0, index)).clamp(min=1.0)
        skip = (~norms.isfinite()).float()
        self.steps.index_add_(0, index, torch.ones_like(norms)[:, None])
        for at, (slot, rate) in enumerate(zip(slots, rates, strict=True)):
            recipe = self._recipes[slot]
            torch._fused_adamw_(
                [self.master[slot]],
                [grads[at]],
                [self.first[slot]],
                [self.second[slot]],
                [],
                [self.steps[slot]],
                lr=rate,
                beta1=recipe.betas[0],
                beta2=recipe.betas[1],
                weight_decay=recipe.weight_decay,
                eps=recipe.eps,
                amsgrad=False,
                maximize=False,
                grad_scale=divisors[at],
                found_inf=skip[at],
            )
        return norms
