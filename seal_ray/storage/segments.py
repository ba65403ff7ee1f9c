"""Records on their way into the store: gathered into segments, uploaded beside the driver's work, bounded."""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from seal_ray.config import StorageSection
from seal_ray.errors import Fenced, LedgerError, SealError, StorageError
from seal_ray.storage import codec
from seal_ray.storage.objects import Part
from seal_ray.storage.store import Store

NAME = re.compile(r"/e([0-9]{6})-([0-9]{8})\.jsonl")
WIDTH = len("/e000001-00000001.jsonl")
QUEUE = 64  # segments' worth of bytes that may wait before the driver has to


def segment_path(folder: str, epoch: int, number: int) -> str:
    return f"{folder}/e{epoch:06d}-{number:08d}.jsonl"


def parse(path: str) -> tuple[str, int, int] | None:
    """Folder, epoch and number of a segment; None for anything else."""
    match = NAME.fullmatch(path, max(0, len(path) - WIDTH)) if len(path) > WIDTH else None
    return (path[:-WIDTH], int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class Landed:
    """A segment that is in the store."""

    part: Part
    digests: tuple[bytes, ...]  # of its lines


@dataclass
class _Open:
    """A segment that still takes records."""

    since: float
    lines: list[bytes] = field(default_factory=list)
    size: int = 0


@dataclass
class _Sealed:
    """A segment that is on its way, or could not be uploaded. Its bytes count as taken until it is in the store."""

    lines: list[bytes]
    size: int


class Writer:
    """Takes lines for folders and puts them into the store as segments of one epoch.

    `guard` is called right before each upload and raises when this driver may not write any more. With `relied_on`
    nothing is ever given up: `append` holds the caller back while too much waits, and raises what went wrong with an
    upload. Without it, what can't be uploaded or finds the queue full is dropped and counted, and nobody is stopped.
    """

    def __init__(
        self,
        store: Store,
        settings: StorageSection,
        epoch: int,
        guard: Callable[[], None],
        *,
        relied_on: bool = True,
    ) -> None:
        self._store, self._settings, self._epoch, self._guard = store, settings, epoch, guard
        self._relied_on = relied_on
        self._changed = threading.Condition(threading.RLock())
        self._open: dict[str, _Open] = {}
        self._numbers: dict[str, int] = {}
        self._waiting: dict[str, _Sealed] = {}  # on its way
        self._failed: dict[str, _Sealed] = {}
        self._error: SealError | None = None
        self._bytes = 0  # taken and not yet in the store
        self._closed = False
        self.landed: dict[str, Landed] = {}
        self.dropped = 0  # lines
        self._uploads = ThreadPoolExecutor(settings.parallel if relied_on else 1, thread_name_prefix="ledger-upload")
        self._clock = threading.Thread(target=self._seal_old, name="ledger-segments", daemon=True)
        self._clock.start()

    def append(self, folder: str, *lines: bytes) -> None:
        """Take lines, which stay in one segment. When this comes back they are on their way, or were dropped where
        nobody relies on them.
        """
        limit = QUEUE * self._settings.segment_bytes
        with self._changed:
            if not self._relied_on:
                if self._closed or self._bytes > limit:
                    self.dropped += len(lines)
                    return
            else:
                while self._bytes > limit and not self._error and not self._closed:
                    self._changed.wait(1)
                if self._error:
                    raise self._error
                if self._closed:
                    raise LedgerError(f"{self._store.uri(folder)}: the run was released, nothing more is taken")
            segment = self._open.get(folder)
            if segment is None:
                segment = self._open[folder] = _Open(time.monotonic())
                self._changed.notify_all()
            size = sum(len(line) + 1 for line in lines)
            segment.lines += lines
            segment.size += size
            self._bytes += size
            if segment.size >= self._settings.segment_bytes:
                self._seal(folder)

    def landed_paths(self) -> list[str]:
        with self._changed:
            return list(self.landed)

    def forget(self, folder: str) -> None:
        """Of what is in the store below that folder a manifest tells from now on."""
        with self._changed:
            self.landed = {path: landed for path, landed in self.landed.items() if not path.startswith(folder)}

    def flush(self, folder: str = "", within: float | None = None) -> None:
        """Come back when everything below that folder is safe in the store; what failed before is tried once more."""
        until = None if within is None else time.monotonic() + within
        with self._changed:
            again = {p: s for p, s in self._failed.items() if p.startswith(folder)}
            if again and not isinstance(self._error, Fenced):
                self._error = None
                for path, sealed in again.items():
                    del self._failed[path]
                    self._send(path, sealed)
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
        self._send(segment_path(folder, self._epoch, number), _Sealed(segment.lines, segment.size))

    def _send(self, path: str, sealed: _Sealed) -> None:
        self._waiting[path] = sealed
        self._uploads.submit(self._upload, path, sealed)

    def _upload(self, path: str, sealed: _Sealed) -> None:
        error: SealError | None = None
        landed: Landed | None = None
        try:
            data = codec.pack_segment(path, sealed.lines)
            digests = tuple(codec.line_digest(line) for line in sealed.lines)
            landed = Landed(Part(path, len(data), codec.sha256(data)), digests)
            self._guard()
            self._store.create(path, data)
        except SealError as refused:
            error = refused
        except Exception as defect:  # it must reach the driver, not die with a thread of the pool
            error = StorageError(f"create {self._store.uri(path)}: {type(defect).__name__}: {defect}")
        with self._changed:
            del self._waiting[path]
            if error is None and landed is not None:
                self._bytes -= sealed.size
                if self._relied_on:  # nobody asks which events there are
                    self.landed[path] = landed
            elif self._relied_on:
                self._failed[path], self._error = sealed, error
            else:
                self._bytes -= sealed.size
                self.dropped += len(sealed.lines)
            self._changed.notify_all()

    def _seal_old(self) -> None:
        """Close segments that have waited long enough for company."""
        longest = self._settings.segment_seconds
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                for folder in [f for f, s in self._open.items() if now - s.since >= longest]:
                    self._seal(folder)
                due = min((s.since + longest for s in self._open.values()), default=None)
                self._changed.wait(None if due is None else max(0.0, due - time.monotonic()))
