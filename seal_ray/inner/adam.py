"""AdamW for the adapters in a bank's slots, each with its own clip, learning rate, step and bias correction.

The one place where weights change. Moments stand beside the float32 master weights, one flat row a slot; beside them,
where products need it, a copy in the type that is computed in, with B scaled.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from seal_ray.inner.kernels.adam import Numbers, adam_step, adam_step_int8, gradient_norms, row_norms
from seal_ray.inner.moments import Moments, thresholds
from seal_ray.inner.stack import Stack
from seal_ray.inner.staging import staged
from seal_ray.records import Recipe


class Adam:
    """What AdamW keeps of every slot. A slot begins anew when another adapter takes it."""

    def __init__(
        self,
        master: Tensor,
        stack: Stack,
        copy: Tensor | None = None,
        *,
        moments: str = "float32",
        by_kernel: bool = False,
    ) -> None:
        """`by_kernel`: all slots in two launches, which needs a copy."""
        self.master, self.split, self.copy, self.by_kernel = master, stack.split, copy, by_kernel
        self.moments = Moments.of(moments, len(master), stack, master.device)
        self._recipes: dict[int, Recipe] = {}
        self._steps: dict[int, int] = {}

    def begin(self, slot: int, recipe: Recipe) -> None:
        """Another adapter is in the slot, whose first weights are in the master's row."""
        self._recipes[slot], self._steps[slot] = recipe, 0
        self.moments.clear(slot)
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
        moments = self.moments
        if not self.by_kernel and moments.kind == "float32":
            return self._one_by_one(slots, places, grads, rates, scales)
        rows = [n for row in zip(slots, rates, scales, strict=True) for n in self._numbers(*row)]
        where, at, numbers = staged(self.master.device, [slots, places], [rows])
        numbers = numbers.view(len(slots), -1)
        norms = gradient_norms(grads, at, numbers, self.split)
        step, kept = (where, at, norms, numbers), (moments.first, moments.second)
        if moments.scales is None:
            adam_step(self.master, *kept, self.copy, grads, *step, self.split)
        else:
            blocks = moments.bounds, moments.longest
            adam_step_int8(self.master, *kept, moments.scales, self.copy, grads, *step, *blocks, self.split)
        return norms

    def _scale(self, slot: int) -> float:
        return self._recipes[slot].alpha / self._recipes[slot].rank

    def _numbers(self, slot: int, rate: float, gradient_scale: float) -> Numbers:
        recipe, step = self._recipes[slot], self._steps[slot]
        limit, bias = recipe.clip or float("inf"), (1 - beta**step for beta in recipe.betas)
        return Numbers(*recipe.betas, recipe.eps, recipe.weight_decay, limit, gradient_scale, self._scale(slot), rate,
                       *bias, *thresholds(step))  # fmt: skip

    def _one_by_one(
        self, slots: Sequence[int], places: Sequence[int], grads: Tensor, rates: Sequence[float], scales: list[float]
    ) -> Tensor:
        """torch's own step for the A and the B of each adapter, whose gradients are scaled differently."""
        halves, moments = (slice(0, self.split), slice(self.split, None)), self.moments
        (scale,) = staged(grads.device, [], [scales])
        norms = row_norms(grads, places, self.split, scale)
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
                    [moments.first[slot, half]],
                    [moments.second[slot, half]],
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
