"""Notices that the head of the cluster is gone, before Ray ends the process for it.

Ray ends a driver whose head does not answer for a minute, from a thread of its own, with the code 1 and nothing said by
us. Until then calls of Ray hang, so the loop can't be asked to notice: a thread knocks at the head's door.
"""

import os
import socket
import threading
import time
from collections.abc import Callable

SETTING = "RAY_gcs_rpc_server_reconnect_timeout_s"  # Ray reads it in this spelling
RAYS_PATIENCE = 60.0  # seconds, where it is not set
SHARE = 0.75  # of that, after which we leave by ourselves
EVERY = 3.0


def patience() -> float:
    """How long a head may be away."""
    try:
        said = float(os.environ.get(SETTING, RAYS_PATIENCE))
    except ValueError:
        said = RAYS_PATIENCE
    return SHARE * said


class HeadWatch:
    """Calls `lost` once, from its own thread, when nobody has answered at `address` (host:port) for that long."""

    def __init__(
        self, address: str, lost: Callable[[float], None], within: float | None = None, every: float = EVERY
    ) -> None:
        host, _, port = address.rpartition(":")
        self._where, self._lost, self._every = (host.strip("[]"), int(port)), lost, every
        self._within = patience() if within is None else within
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="head-watch", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        answered = time.monotonic()
        while not self._closed.wait(self._every):
            if self._answers():
                answered = time.monotonic()
            elif time.monotonic() - answered >= self._within and not self._closed.is_set():
                self._lost(time.monotonic() - answered)
                return

    def _answers(self) -> bool:
        try:
            socket.create_connection(self._where, timeout=self._every).close()
        except OSError:
            return False
        return True
