"""Numbers on their way to the device: everything that a forward needs, in one copy that nobody waits for."""

from collections.abc import Sequence

import torch
from torch import Tensor


def staged(
    device: torch.device, integers: Sequence[Sequence[int]], floats: Sequence[Sequence[float]] = ()
) -> list[Tensor]:
    """A tensor on the device for each list: int64 for the integers, float32 for the others."""
    counts = [len(numbers) for numbers in (*integers, *floats)]
    bits = torch.tensor([n for numbers in floats for n in numbers], dtype=torch.float64).view(torch.int64)
    row = torch.cat([torch.tensor([n for numbers in integers for n in numbers], dtype=torch.int64), bits])
    if device.type == "cuda":
        row = row.pin_memory().to(device, non_blocking=True)
    parts = row.split(counts)
    return [*parts[: len(integers)], *(part.view(torch.float64).float() for part in parts[len(integers) :])]
