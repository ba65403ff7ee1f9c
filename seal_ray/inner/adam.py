"""AdamW for all adapters of a bank, each with its own clip, learning rate, step and bias correction."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seal_ray.records import Recipe


class Adam:
    """Moments of every adapter beside its float32 master weights, one flat row each."""

    def __init__(self, master: Tensor, recipes: Sequence[Recipe]) -> None:
        self.master, self.recipes = master, recipes
        self.first = torch.zeros_like(master)
        self.second = torch.zeros_like(master)
        self.steps = torch.zeros(len(master), 1, device=master.device)

    def step(self, slots: Sequence[int], grads: Tensor, rates: Sequence[float]) -> Tensor:
        """One step of the adapters in `slots`, whose gradients are the first rows of `grads`.

        Returns each one's gradient norm. An adapter whose norm is not finite is left as it was.
        """
        norms = torch.stack(torch._foreach_norm(list(grads[: len(slots)].unbind())))
        limits = torch.tensor([self.recipes[s].clip or float("inf") for s in slots], device=norms.device)
        # the fused step divides gradients by this, which is what clip_grad_norm_ multiplies by, upside down
        divisors = ((norms + 1e-6) / limits).clamp(min=1.0)
        skip = (~norms.isfinite()).float()
        for at, (slot, rate) in enumerate(zip(slots, rates, strict=True)):
            recipe = self.recipes[slot]
            torch._fused_adamw_(
                [self.master[slot]],
                [grads[at]],
                [self.first[slot]],
                [self.second[slot]],
                [],
                [self.steps[slot].add_(1)],
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
