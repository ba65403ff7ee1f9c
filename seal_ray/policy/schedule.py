"""The learning rate of each step of an update."""

import math

from seal_ray.config import PolicySection


def learning_rate(number: int, steps: int, section: PolicySection) -> float:
    """Of step `number`, counted from 0: a linear warm-up, then the schedule down to 0 (or none)."""
    warmup = math.ceil(section.warmup * steps)
    if number < warmup:
        return section.lr * (number + 1) / warmup
    done = (number - warmup) / max(steps - warmup, 1)
    if section.schedule == "linear":
        return section.lr * (1 - done)
    if section.schedule == "cosine":
        return section.lr * 0.5 * (1 + math.cos(math.pi * done))
    return section.lr
