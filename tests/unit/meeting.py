"""How many threads are somewhere at once: each stays until as many as are expected have come."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Meeting:
    """State: how many are inside, and how many have been at most."""

    def __init__(self, expected: int) -> None:
        self.most, self._inside, self._expected = 0, 0, expected
        self._changed = threading.Condition()

    @contextmanager
    def join(self) -> Iterator[None]:
        with self._changed:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self.most >= self._expected, timeout=60)
            # and a moment for one too many to come, where nothing keeps it out
            self._changed.wait_for(lambda: self.most > self._expected, timeout=0.2)
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
