"""What a person or a place does to stop a run, and how the command line leaves in time."""

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seal_ray.errors import Interrupted
from seal_ray.process_end import end_process


class StopSignals:
    """SIGINT and SIGTERM: ask the driver to stop, and leave in time even where it can't listen."""

    def __init__(self, within: float, uri: str, config: str | Path, command: str = "run") -> None:
        self.stopped, self._within, self._uri = False, within, uri
        self._through = threading.Event()
        options = any(word.startswith("--") for word in sys.argv[1:])
        self._again = f"seal-ray {command} {shlex.quote(str(config))}" + (", with the same options" if options else "")
        self._wind_up: list[Callable[[], None]] = []
        self._before: dict[int, Any] = {}

    def on_stop(self, call: Callable[[], None]) -> None:
        """What must be done before the process ends, also where the driver is stuck in a library."""
        self._wind_up.append(call)

    def __enter__(self) -> "StopSignals":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:  # it was done before it could stop: what comes of it may be written in peace
            self._through.set()
        for number, before in self._before.items():
            signal.signal(number, before)

    def _stop(self, *_: object) -> None:
        if not self.stopped:
            self.stopped = True
            threading.Thread(target=self._leave, daemon=True).start()

    def _leave(self) -> None:
        if self._through.wait(self._within * 0.4):  # the driver's own way out, where it is listening
            return
        try:
            for call in self._wind_up:
                with contextlib.suppress(Exception):  # the store may not answer: that keeps nobody here
                    call()
        finally:
            message = f"interrupted; everything found is kept. Go on with: {self._again}"
            end_process(message, Interrupted.exit_code)
