"""Whether the work of reading a text grows with its length or faster."""

import time
from collections.abc import Callable

# eight times the text takes about eight times as long; what is quadratic takes 64 times as long
SIZES = 4_000, 32_000
FACTOR = 24.0
SLIGHT = 0.01  # seconds: what the long text takes in less is no matter


def seconds(read: Callable[[str], object], text: str) -> float:
    began = time.thread_time()
    read(text)
    return time.thread_time() - began


def grows_faster(read: Callable[[str], object], part: str, before: str = "", after: str = "") -> bool:
    """Whether eight times the text costs far more than eight times the work; asked again before it is believed."""
    texts = [before + (part * (size // len(part) + 1))[:size] + after for size in SIZES]
    for _ in range(4):
        long = seconds(read, texts[1])
        if long < SLIGHT or long < FACTOR * max(seconds(read, texts[0]), 1e-4):
            return False
    return True
