"""How long a store is asked again while it does not answer."""

import threading
import time

FIRST = 15.0  # seconds for a store that has never answered: its endpoint may well be wrong
PAUSE = 20.0  # seconds without an attempt after which the next failure begins another outage


class Patience:
    """One budget of time for everything that goes on at once: an outage is waited out once, not once for each object.

    An operation gives up when it has failed for that long, or when nothing at all has worked for that long.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._answered = False
        self._since: float | None = None  # when the outage that is on began
        self._last = 0.0  # the latest failure
        self._lock = threading.Lock()

    def answered(self) -> None:
        """The store has answered, if only to say no."""
        with self._lock:
            self._answered, self._since = True, None

    def failed(self) -> None:
        now = time.monotonic()
        with self._lock:
            if self._since is None or now - self._last > PAUSE + self._seconds:
                self._since = now
            self._last = now

    def left(self, first: float) -> float:
        """Seconds for which an operation that first failed then may go on."""
        now = time.monotonic()
        with self._lock:
            seconds = self._seconds if self._answered else min(self._seconds, FIRST)
            since = first if self._since is None else min(first, self._since)
            return since + seconds - now
