"""Runs the bank's Triton kernels in Triton's interpreter, in a process of its own: it must know before it is imported.

python interpreted_kernels.py
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"
os.environ["SEAL_RAY_KERNELS"] = "plain"  # what they are held to
sys.path[:0] = [str(Path(__file__).parents[1] / "parity")]
sys.path.append(os.environ["TRITON_FOLDER"])

import torch  # noqa: E402
from bank_models import texts, tiny  # noqa: E402

from seal_ray.inner import fit, training  # noqa: E402
from seal_ray.inner.kernels import canary  # noqa: E402
from seal_ray.inner.kernels.operator import Operator  # noqa: E402
from seal_ray.records import Recipe  # noqa: E402

CPU = torch.device("cpu")


def forms() -> dict[str, Any]:
    """What the canary finds wrong, by type."""
    kernels = canary.triton_kernels()
    sampled = {name for name, _ in canary.samples(CPU, torch.float32)} & set(kernels)
    wrong = {str(dtype): canary.disagreements(kernels, CPU, dtype) for dtype in canary.CLOSE}
    return {"kernels": sorted(kernels), "sampled": sorted(sampled), "wrong": wrong}


def broken() -> dict[str, Any]:
    """Of kernels that are each a little off, those that the canary tells."""
    off = {name: _louder(kernel) for name, kernel in canary.triton_kernels().items()}
    return {"wrong": sorted(canary.disagreements(off, CPU, torch.bfloat16))}


def _louder(kernel: Any) -> Any:
    def own(*args: Any) -> Any:
        out = kernel(*args)
        for tensor in [out] if isinstance(out, torch.Tensor) else out or args[:1]:
            tensor.mul_(1.05)
        return out

    return own


def empty_group() -> list[float]:
    """What a group without rows is given, between two that have some, in rows that lie apart."""
    wide = torch.full((3, 700), 7.0)
    ends = torch.tensor([2, 2, 5], dtype=torch.int32)
    left, right = torch.ones(5, 24)[:, 8:], torch.ones(5, 80)[:, :40]
    canary.triton_kernels()["grouped_gradients_"](wide[:, 4:644].view(3, 16, 40), left, right, ends, True)
    return [*wide[:, 0].tolist(), *wide[:, 4].tolist(), *wide[:, 643].tolist(), *wide[:, 644].tolist()]


def bank() -> dict[str, Any]:
    """Losses of a bank of ragged rows by the kernels, and by plain forms."""
    training.ragged_suits = lambda *_: True  # type: ignore[assignment]
    sets = [texts(1, [5]), texts(2, [4]), texts(3, [4, 3])]
    recipes = [
        Recipe(rank=8, alpha=16.0, epochs=1, lr=3e-3, clip=1.0),
        Recipe(rank=8, alpha=8.0, epochs=1, lr=3e-3, clip=0.0, moments="bfloat16"),
        Recipe(rank=8, alpha=4.0, epochs=1, lr=3e-3, clip=0.1, moments="int8"),
    ]
    plain = fit(tiny("qwen2"), sets, recipes, [1, 2, 3], slots=2)
    kernels, calls = canary.triton_kernels(), set()

    def call(self: Operator, *args: Any) -> Any:
        if self.on_gpu:
            calls.add(self.name)
        return kernels.get(self.name, self.plain)(*args)

    Operator.__call__ = call  # type: ignore[method-assign]
    model = tiny("qwen2")
    from seal_ray.inner import frozen

    frozen.use_kernels = lambda *_: True
    own = fit(model, sets, recipes, [1, 2, 3], slots=2)
    return {"plain": plain.losses, "own": own.losses, "calls": sorted(calls)}


if __name__ == "__main__":
    print(json.dumps({"forms": forms(), "broken": broken(), "empty": empty_group(), "bank": bank()}))
