"""AdamW for the adapters in a bank's slots, each with its own clip, learning rate, step and bias correction.

The one place where weights change. Moments stand beside the float32 master weights, one flat row a slot; beside them,
where products need it, a copy in the type that is computed in, with B scaled.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from seal_ray.inner.kernels.adam import adam_step, gradient_norms
from seal_ray.inner.staging import staged
from seal_ray.records import Recipe


class Adam:
    """What AdamW keeps of every slot. A slot begins anew when another adapter takes it."""

    def __init__(self, master: Tensor, split: int, copy: Tensor | None = None, *, by_kernel: bool = False) -> None:
        """`split`: where B begins in a row. `by_kernel`: all slots in two launches, which needs a copy."""
        self.master, self.split, self.copy, self.by_kernel = master, split, copy, by_kernel
        self.first = torch.zeros_like(master)
        self.second = torch.zeros_like(master)
        self._recipes: dict[int, Recipe] = {}
        self._steps: dict[int, int] = {}

    def begin(self, slot: int, recipe: Recipe) -> None:
        """Another adapter is in the slot, whose first weights are in the master's row."""
        self._recipes[slot], self._steps[slot] = recipe, 0
        self.first[slot].zero_()
        self.second[slot].zero_()
        self.refresh(slot)

    def refresh(self, slot: int) -> None:
        """Makes the copy of a slot anew, whose weights were changed by somebody else."""
        if self.copy is not None:
            recipe = self._recipes[slot]
            self.copy[slot, : self.split].copy_(self.master[slot, : self.split])
            self.copy[slot, self.split :].copy_(self.master[slot, self.split :] * (recipe.alpha / recipe.rank))

    def step(self, slots: Sequence[int], places: Sequence[int], grads: Tensor, rates: Sequence[float],
             unscaled: bool = False) -> Tensor:  # fmt: skip
        """One step of the adapters in `slots`, whose gradients are the rows `places` of `grads`.

        Returns each one's gradient norm. An adapter whose norm is not finite is left as it was. `unscaled`: gradients
        are by B itself already.
        """
        for slot in slots:
            self._steps[slot] += 1
        scales = [1.0 if unscaled else self._scale(slot) for slot in slots]
        if not self.by_kernel:
            return self._one_by_one(slots, places, grads, rates, scales)
        rows = [n for row in zip(slots, rates, scales, strict=True) for n in self._numbers(*row)]
        where, at, numbers = staged(self.master.device, [slots, places], [rows])
        numbers = numbers.view(len(slots), -1)
        norms = gradient_norms(grads, at, numbers, self.split)
        adam_step(self.master, self.first, self.second, self.copy, grads, where, at, norms, numbers, self.split)
        return norms

    def _scale(self, slot: int) -> float:
        return self._recipes[slot].alpha / self._recipes[slot].rank

    def _numbers(self, slot: int, rate: float, gradient_scale: float) -> list[float]:
        recipe, step = self._recipes[slot], self._steps[slot]
        betas, limit = recipe.betas, recipe.clip or float("inf")
        return [*betas, recipe.eps, recipe.weight_decay, limit, gradient_scale, self._scale(slot), rate,
                *(1 - beta**step for beta in betas)]  # fmt: skip

    def _one_by_one(
        self, slots: Sequence[int], places: Sequence[int], grads: Tensor, rates: Sequence[float], scales: list[float]
    ) -> Tensor:
        """torch's own step for the A and the B of each adapter, whose gradients are scaled differently."""
        halves = (slice(0, self.split), slice(self.split, None))
        parts = [grads[place, half] for place in places for half in halves]
        of_a, of_b = torch.stack(torch._foreach_norm(parts, 2, torch.float32)).view(-1, 2).unbind(1)
        (scale,) = staged(grads.device, [], [scales])
        norms = torch.hypot(of_a, of_b * scale)
        skip = (~norms.isfinite()).float()
        for at, (slot, place, rate) in enumerate(zip(slots, places, rates, strict=True)):
            recipe = self._recipes[slot]
            # the fused step divides by this, which is what clip_grad_norm_ multiplies by, upside down
            divisor = ((norms[at] + 1e-6) / (recipe.clip or float("inf"))).clamp(min=1.0)
            step = torch.full((), float(self._steps[slot]), device=grads.device)
            for half, by in zip(halves, (1.0, scales[at]), strict=True):
                torch._fused_adamw_(
                    [self.master[slot, half]],
                    [grads[place, half].to(self.master.dtype)],
                    [self.first[slot, half]],
                    [self.second[slot, half]],
                    [],
                    [step],
                    lr=rate,
                    beta1=recipe.betas[0],
                    beta2=recipe.betas[1],
                    weight_decay=recipe.weight_decay,
                    eps=recipe.eps,
                    amsgrad=False,
                    maximize=False,
                    grad_scale=divisor / by,
                    found_inf=skip[at],
                )
            self.refresh(slot)
        return norms
