"""Signs of life of a worker of an update while it does what may take longer than any step: it is no hang."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from seal_ray.models.shared import FETCH_SECONDS

BEAT = 5.0  # seconds between two of them


@contextlib.contextmanager
def signs_of_life(desk: Any) -> Iterator[None]:
    """While a model comes and is loaded, or a checkpoint is written or read. Not without end."""
    ready, until = threading.Event(), time.monotonic() + FETCH_SECONDS

    def beat() -> None:
        while time.monotonic() < until and not ready.wait(BEAT):
            desk.alive.remote()

    threading.Thread(target=beat, name="signs-of-life", daemon=True).start()
    try:
        yield
    finally:
        ready.set()
