"""The phases of an exploration, which overlap where the cluster has room: each is told once, with its own time."""

import time
from collections.abc import Callable

from seal_ray.events import Phase, PhaseEnded, PhaseStarted, Sink


class Phases:
    """Is shown what is at work, again and again, and tells what has begun and what is over."""

    def __init__(self, tell: Sink, total: Callable[[Phase], int]) -> None:
        """`total` is asked when a phase begins: how much there is to do; 0 where that is not known."""
        self._tell, self._total = tell, total
        self._began: dict[Phase, float] = {}
        self._over: set[Phase] = set()

    def look(self, at_work: dict[Phase, bool]) -> None:
        """In the order in which one feeds the next: none is over while there is still something to come to it."""
        fed = False
        for phase, busy in at_work.items():
            if busy and phase not in self._began:
                self._began[phase] = time.monotonic()
                self._tell(PhaseStarted(phase, self._total(phase)))
            fed = fed or busy
            if phase in self._began and phase not in self._over and not fed:
                self._over.add(phase)
                self._tell(PhaseEnded(phase, round(time.monotonic() - self._began[phase], 1)))
