"""Whether the work of reading a text grows with its length or faster."""

import gc
import time
from collections.abc import Callable
from functools import partial

# eight times the text takes about eight times as long; what is quadratic takes 64 times as long
SIZES = 4_000, 32_000
FACTOR = 3.0  # times the work that is in proportion
SLIGHT = 0.01  # seconds: what the long text takes in less is no matter


def seconds(work: Callable[[], object]) -> float:
    """Of this thread, without what collecting the garbage of a whole process of tests would add to long work."""
    gc.disable()
    try:
        began = time.thread_time()
        work()
        return time.thread_time() - began
    finally:
        gc.enable()


def grows_faster(read: Callable[[str], object], part: str, before: str = "", after: str = "") -> bool:
    """Whether eight times the text costs far more than eight times the work."""
    texts = [before + (part * (size // len(part) + 1))[:size] + after for size in SIZES]
    return more_than(
        SIZES[1] // SIZES[0], lambda: seconds(partial(read, texts[0])), lambda: seconds(partial(read, texts[1]))
    )


def more_than(times: int, small: Callable[[], float], large: Callable[[], float]) -> bool:
    """Whether what is so many times as large takes far more than so many times as long; asked again before believed."""
    for _ in range(4):
        long = large()
        if long < SLIGHT or long < FACTOR * times * max(small(), 1e-4):
            return False
    return True
