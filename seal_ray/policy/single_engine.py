"""An adapter trained by one process: torch's AdamW on float32 copies, with the numbers that DeepSpeed gives.

What several workers or full weights need (shards, collectives, a launcher) is not here, nor what it costs to start.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seal_ray import models
from seal_ray.config import PolicySection
from seal_ray.policy import learner, version_files
from seal_ray.policy.learner import Learner, PackedRow


class SingleEngine:
    """The model, the float32 copies of what it trains, and the optimiser."""

    rank, world = 0, 1

    def __init__(
        self, base: str, start: str | None, section: PolicySection, seed: int, device: str, *, trust: bool = False
    ) -> None:
        """`trust`: code that comes with the model may run."""
        self.device = torch.device(device)
        self._clip = section.clip
        dtype = models.pick_dtype(section.dtype, device)
        model = learner.build(base, start, section, seed, dtype, device, trust=trust)
        if section.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        model.train()  # or nothing is recomputed; there is no dropout left that it could wake
        self._learner = Learner(model)
        self.adapter_rank = learner.adapter_rank(model)
        self._trained = [weight for _, weight in learner.trainable(model)]
        # in float32 the weights themselves; of smaller types copies, or small steps would be rounded away
        self._masters = [w if w.dtype == torch.float32 else w.detach().float() for w in self._trained]
        self._optimizer = torch.optim.AdamW(self._masters, lr=section.lr, weight_decay=section.weight_decay)

    def forward(self, row: PackedRow) -> tuple[Tensor, Tensor]:
        return self._learner(row.ids, row.positions, row.keep, row.targets)

    def logits(self, row: PackedRow, *, of_base: bool) -> Tensor:
        with learner.without_adapter(self._learner.model, of_base):
            return self._learner(row.ids, row.positions, row.keep, None)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, lr: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        for weight, master in zip(self._trained, self._masters, strict=True):
            if master is not weight:
                master.grad = None if weight.grad is None else weight.grad.float()
        limit = self._clip or torch.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self._masters, limit))
        self._optimizer.step()
        with torch.no_grad():
            for weight, master in zip(self._trained, self._masters, strict=True):
                if master is not weight:
                    weight.copy_(master)
                weight.grad = None
        return norm

    def sum(self, values: Tensor) -> list[float]:
        return values.tolist()

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def save(self, send: Callable[[str, str], None]) -> None:
        """Hand the adapter's files over, each by name and path on this node."""
        copies: dict[int, Tensor] = {id(w): m for w, m in zip(self._trained, self._masters, strict=True)}

        def whole(weight: Any) -> Tensor:
            master: Tensor = copies.get(id(weight), weight)  # pyright: ignore[reportAssignmentType]
            return master.detach().to("cpu").float().clone()

        version_files.send_adapter(*learner.adapter_files(self._learner.model, whole), send)

    def write(self, folder: Path, tag: str) -> None:
        raise NotImplementedError("an adapter's update is short and starts again instead")

    def read(self, folder: Path, tag: str) -> None:
        raise NotImplementedError("an adapter's update is short and starts again instead")
