"""Records on their way into the store: gathered into segments, uploaded beside the driver's work, bounded."""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from seal_ray.config import StorageSection
from seal_ray.errors import Fenced, SealError, StorageError
from seal_ray.storage import codec
from seal_ray.storage.objects import Part
from seal_ray.storage.store import Store

NAME = re.compile(r"(?P<folder>.+)/e(?P<epoch>\d{6})-(?P<number>\d{8})\.jsonl")
QUEUE = 64  # segments' worth of bytes that may wait before the driver has to


def segment_path(folder: str, epoch: int, number: int) -> str:
    return f"{folder}/e{epoch:06d}-{number:08d}.jsonl"


def parse(path: str) -> tuple[str, int, int] | None:
    """Folder, epoch and number of a segment; None for anything else."""
    found = NAME.fullmatch(path)
    return (found["folder"], int(found["epoch"]), int(found["number"])) if found else None


@dataclass
class _Open:
    """A segment that still takes records."""

    since: float
    lines: list[bytes] = field(default_factory=list)
    size: int = 0


class Writer:
    """Takes lines for folders and puts them into the store as segments of one epoch.

    `guard` is called right before each upload and raises when this driver may not write any more.
    """

    def __init__(self, store: Store, settings: StorageSection, epoch: int, guard: Callable[[], None]) -> None:
        self._store, self._settings, self._epoch, self._guard = store, settings, epoch, guard
        self._changed = threading.Condition(threading.RLock())
        self._open: dict[str, _Open] = {}
        self._numbers: dict[str, int] = {}
        self._waiting: dict[str, list[bytes]] = {}  # sealed and not yet in the store
        self._failed: dict[str, list[bytes]] = {}
        self._error: SealError | None = None
        self._bytes = 0  # taken and not yet in the store
        self._closed = False
        self.landed: dict[str, Part] = {}
        self._uploads = ThreadPoolExecutor(settings.parallel, thread_name_prefix="ledger-upload")
        self._clock = threading.Thread(target=self._seal_old, name="ledger-segments", daemon=True)
        self._clock.start()

    def append(self, folder: str, line: bytes, *, wait: bool = True) -> None:
        """Take a line. With `wait` it blocks while too much is on its way, and raises what went wrong with an upload.

        Without, a line that finds the queue full is dropped: for what is told and not relied on.
        """
        limit = QUEUE * self._settings.segment_bytes
        with self._changed:
            if wait:
                while self._bytes > limit and not self._error:
                    self._changed.wait(1)
                if self._error:
                    raise self._error
            if self._closed or (not wait and self._bytes > 2 * limit):
                return
            segment = self._open.get(folder)
            if segment is None:
                segment = self._open[folder] = _Open(time.monotonic())
                self._changed.notify_all()
            segment.lines.append(line)
            segment.size += len(line) + 1
            self._bytes += len(line) + 1
            if segment.size >= self._settings.segment_bytes:
                self._seal(folder)

    def flush(self, folder: str = "", within: float | None = None) -> None:
        """Come back when everything below that folder is safe in the store; what failed before is tried once more."""
        until = None if within is None else time.monotonic() + within
        with self._changed:
            again = {p: d for p, d in self._failed.items() if p.startswith(folder)}
            if again and not isinstance(self._error, Fenced):
                self._error = None
                for path, lines in again.items():
                    del self._failed[path]
                    self._send(path, lines)
            for name in [f for f in self._open if f.startswith(folder)]:
                self._seal(name)
            while any(p.startswith(folder) for p in self._waiting):
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise StorageError(
                        f"{len(self._waiting)} segments of {self._store.uri()} are not in the store after {within} s",
                        hint="what they hold is done again when the run goes on",
                    )
                self._changed.wait(1 if left is None else min(left, 1))
            if self._error and any(p.startswith(folder) for p in self._failed):
                raise self._error

    def close(self) -> None:
        """Stop the threads. What was not flushed is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._uploads.shutdown(wait=False, cancel_futures=True)

    def _seal(self, folder: str) -> None:
        segment = self._open.pop(folder)
        number = self._numbers[folder] = self._numbers.get(folder, 0) + 1
        self._send(segment_path(folder, self._epoch, number), segment.lines, segment.size)

    def _send(self, path: str, lines: list[bytes], taken: int = 0) -> None:
        self._waiting[path] = lines
        self._uploads.submit(self._upload, path, lines, taken)

    def _upload(self, path: str, lines: list[bytes], taken: int) -> None:
        error: SealError | None = None
        part: Part | None = None
        try:
            data = self._pack(path, lines)
            part = Part(path, len(data), codec.sha256(data))
            self._guard()
            self._store.create(path, data)
        except SealError as found:
            error = found
        except Exception as found:  # a defect: it must reach the driver, not die with a thread of the pool
            error = StorageError(f"create {self._store.uri(path)}: {type(found).__name__}: {found}")
        with self._changed:
            del self._waiting[path]
            self._bytes -= taken
            if error is None and part is not None:
                self.landed[path] = part
            else:
                self._failed[path] = lines
                self._error = error
            self._changed.notify_all()

    def _pack(self, path: str, lines: list[bytes]) -> bytes:
        found = parse(path)
        assert found
        folder, epoch, number = found
        return codec.pack_segment(folder.rpartition("/")[2], epoch, number, lines)

    def _seal_old(self) -> None:
        """Close segments that have waited long enough for company."""
        patience = self._settings.segment_seconds
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                for folder in [f for f, s in self._open.items() if now - s.since >= patience]:
                    self._seal(folder)
                due = min((s.since + patience for s in self._open.values()), default=None)
                self._changed.wait(None if due is None else max(0.0, due - time.monotonic()))
