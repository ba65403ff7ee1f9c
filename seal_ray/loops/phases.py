"""The phases of an exploration, which overlap where the cluster has room: each is told once, with its own time."""

import time

from seal_ray.events import Phase, PhaseEnded, PhaseStarted, Sink


class Phases:
    """Is shown what is at work, again and again, and tells what has begun and what is over."""

    def __init__(self, tell: Sink, totals: dict[Phase, int]) -> None:
        """`totals`: how much there is to do, where that is known beforehand."""
        self._tell, self._totals = tell, totals
        self._began: dict[Phase, float] = {}
        self._over: set[Phase] = set()

    def look(self, at_work: dict[Phase, bool]) -> None:
        """In the order in which one feeds the next: none is over while there is still something to come to it."""
        fed = False
        for phase, busy in at_work.items():
            if busy and phase not in self._began:
                self._began[phase] = time.monotonic()
                self._tell(PhaseStarted(phase, self._totals.get(phase, 0)))
            fed = fed or busy
            if phase in self._began and phase not in self._over and not fed:
                self._over.add(phase)
                self._tell(PhaseEnded(phase, round(time.monotonic() - self._began[phase], 1)))
