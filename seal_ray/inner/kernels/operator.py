"""One operation in two forms: plain torch, which runs anywhere, and a kernel of the device it is called on."""

from collections.abc import Callable
from typing import Any

import torch

LIBRARY = torch.library.Library("seal_ray", "DEF")
# by an operation's name; empty until the canary has seen them agree with the plain forms
KERNELS: dict[str, Callable[..., Any]] = {}
OPERATORS: dict[str, "Operator"] = {}


class Operator:
    """Known to torch by name, so that a device that computes nothing counts it as the one launch that it is."""

    def __init__(self, schema: str, plain: Callable[..., Any], shapes: Callable[..., Any]) -> None:
        """`shapes`: what it returns, empty."""
        self.name, self.plain = schema.split("(")[0], plain
        LIBRARY.define(schema)
        LIBRARY.impl(self.name, self._on_device, "CUDA")
        LIBRARY.impl(self.name, shapes, "Meta")
        self._by_name = getattr(torch.ops.seal_ray, self.name)
        OPERATORS[self.name] = self

    def __call__(self, first: torch.Tensor, *rest: Any) -> Any:
        return self.plain(first, *rest) if first.device.type == "cpu" else self._by_name(first, *rest)

    @property
    def written(self) -> list[int]:
        """Which of its arguments it writes to."""
        arguments = self._by_name.default._schema.arguments
        return [n for n, a in enumerate(arguments) if a.alias_info is not None and a.alias_info.is_write]

    def _on_device(self, *args: Any) -> Any:
        return KERNELS.get(self.name, self.plain)(*args)
