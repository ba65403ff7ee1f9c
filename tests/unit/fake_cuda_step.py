# ruff: noqa: E402
"""One step of a bank at 7B width on a CUDA device that computes nothing: prints what it would have launched.

python fake_cuda_step.py SHIM ragged|blocks LAYERS
"""

import ctypes
import json
import random
import sys
import weakref
from collections import Counter
from typing import Any

ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM

from seal_ray.inner import frozen as frozen_file
from seal_ray.inner import training
from seal_ray.inner.bank import Bank
from seal_ray.inner.frozen import Frozen
from seal_ray.inner.stack import Stack
from seal_ray.inner.training_text import TrainingText
from seal_ray.records import Recipe
from seal_ray.shapes import KNOWN_CONFIGS

SLOTS = 32
LAUNCHLESS = ("prim.device", "aten.empty", "aten.new_empty", "aten.detach")


class Launches(TorchDispatchMode):
    """Counts what would run on the device, what would be copied to it, and how often somebody would wait for it.

    And the most bytes that are new on the device at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ops: Counter[str] = Counter()
        self.copies = self.waits = 0
        self.held = self.most = 0
        self.seen: dict[int, weakref.ref[Any]] = {}  # storages by their address

    def _made(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.seen:
            return

        def gone(_: object) -> None:
            del self.seen[key]
            self.held -= size

        self.seen[key] = weakref.ref(storage, gone)
        self.held += size
        self.most = max(self.most, self.held)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cuda":
                storage = tensor.untyped_storage()
                if storage._cdata not in before:
                    self._made(storage)
        name = str(func)
        devices = {t.device.type for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)}
        if "_local_scalar_dense" in name:
            self.waits += 1
        elif devices == {"cpu", "cuda"} and "copy" in name:
            self.copies += 1
        elif "cuda" in devices and not func.is_view and not name.startswith(LAUNCHLESS):
            self.ops[name] += 1
        return out


def untried(self: frozen_file.Frozen, block: Any, norms: Any) -> Any:
    beneath = {name: frozen_file.plain_weights(layer) for name, layer in self.layers.items()}
    return frozen_file.decoder_block(block, beneath, self.layers, norms)


def main(kind: str, layers: int) -> dict[str, Any]:
    # what a device that computes nothing can't say or do
    torch.allclose = lambda *_, **__: True  # type: ignore[assignment]
    torch.Tensor.pin_memory = lambda self, *_: self  # type: ignore[assignment]
    Stack.start = lambda *_: None  # type: ignore[method-assign]
    training.ragged_suits = lambda *_: kind == "ragged"
    frozen_file.use_kernels = lambda *_: True
    frozen_file.Frozen._tried = untried  # type: ignore[method-assign]
    rng = random.Random(0)
    lengths = [rng.randint(20, 60) for _ in range(SLOTS - 4)] + [120, 180, 200, 260]
    recipe = Recipe(rank=32, alpha=64)
    with FakeTensorMode(allow_non_fake_inputs=True):
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("cuda"):
            config = AutoConfig.for_model(**{**KNOWN_CONFIGS["qwen2.5-7b"], "num_hidden_layers": layers})
            model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        torch.set_default_dtype(torch.float32)
        frozen = Frozen(model.eval().requires_grad_(False))
        names = [n for n in frozen.layers if n != frozen.head_name]
        stack = Stack.of(frozen.layers, names, recipe.rank)
        bank = Bank(
            frozen, stack, [None] * SLOTS, [0] * SLOTS, [recipe] * SLOTS, dict.fromkeys(range(SLOTS), names), 2048
        )
        courses = [
            training.Course(i, recipe, [TrainingText((5,) * n, range(1, n))], [[0], [0]]) for i, n in enumerate(lengths)
        ]
        with frozen.attached(names):
            trained = training.SlotTraining(bank, courses, SLOTS)
            trained._refill()
            with Launches() as counted:
                trained._step()
    return {
        "launches": sum(counted.ops.values()),
        "copies": counted.copies,
        "waits": counted.waits,
        "new_bytes": counted.most,
        "rows": sum(lengths),
        "ops": dict(counted.ops.most_common()),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[2], int(sys.argv[3]))))
