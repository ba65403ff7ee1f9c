"""One operation in two forms: plain torch, which runs anywhere, and a kernel of the device it is called on."""

from collections.abc import Callable
from typing import Any

import torch

LIBRARY = torch.library.Library("seal_ray", "DEF")
# by device and an operation's name; empty until the canary has seen them agree with the plain forms
KERNELS: dict[str, dict[str, Callable[..., Any]]] = {"cpu": {}, "cuda": {}}
OPERATORS: dict[str, "Operator"] = {}


class Operator:
    """Known to torch by name, so that a device that computes nothing counts it as the one launch that it is."""

    def __init__(self, schema: str, plain: Callable[..., Any], shapes: Callable[..., Any] | None = None) -> None:
        """`shapes`: what it returns, empty. Without it only a CPU has a kernel, and torch does not hear of it."""
        self.name, self.plain = schema.split("(")[0], plain
        arguments = schema.split("->")[0].split(", ")
        self.written = [n for n, argument in enumerate(arguments) if "!" in argument]
        self.on_gpu = shapes is not None
        self._elsewhere = plain
        if shapes is not None:
            LIBRARY.define(schema)
            LIBRARY.impl(self.name, self._on_gpu, "CUDA")
            LIBRARY.impl(self.name, shapes, "Meta")
            self._elsewhere = getattr(torch.ops.seal_ray, self.name)
        OPERATORS[self.name] = self

    def __call__(self, first: torch.Tensor, *rest: Any) -> Any:
        if first.device.type != "cpu":
            return self._elsewhere(first, *rest)
        kernel = KERNELS["cpu"].get(self.name) if first.dtype == torch.float32 else None
        return (kernel or self.plain)(first, *rest)

    def _on_gpu(self, *args: Any) -> Any:
        return KERNELS["cuda"].get(self.name, self.plain)(*args)
