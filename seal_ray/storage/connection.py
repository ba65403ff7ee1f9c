"""How one process gets at a run: the store, what counts as written, and its hold and writer if it drives."""

import threading
import time
from collections import deque

from seal_ray.config import StorageSection
from seal_ray.errors import LedgerError
from seal_ray.records import Event, Json
from seal_ray.storage import codec
from seal_ray.storage.epochs import Hold
from seal_ray.storage.objects import Part
from seal_ray.storage.seen import Seen, read_seen
from seal_ray.storage.segments import Writer
from seal_ray.storage.store import Sink, Store

BEFORE = 10_000  # events that are kept until there is a hold to write them under


class Connection:
    """Shared by a ledger and its rounds. `hold` and `writer` are there from take-over to release."""

    def __init__(self, store: Store, settings: StorageSection, *, read_only: bool, seen: Seen | None = None) -> None:
        self.store, self.settings, self.read_only = store, settings, read_only
        self.hold: Hold | None = None
        self.writer: Writer | None = None
        self.sink: Sink | None = None
        self._seen, self._pinned, self._looked = seen or Seen(), seen is not None, 0.0
        self._tombstones: frozenset[tuple[str, str]] | None = None
        self._early: deque[bytes] = deque(maxlen=BEFORE)
        self._lock = threading.RLock()

    # what counts

    def seen(self) -> Seen:
        """For a driver what its take-over found; for a reader what the latest one did, looked up every second."""
        with self._lock:
            if not self._pinned and time.monotonic() - self._looked > 1:
                self._seen, self._looked = read_seen(self.store), time.monotonic()
            return self._seen

    def pin(self, seen: Seen) -> None:
        with self._lock:
            self._seen, self._pinned = seen, True

    def unpin(self) -> None:
        with self._lock:
            self._pinned, self._looked = False, 0.0

    def counts(self, path: str, epoch: int) -> bool:
        """Whether an object that names this epoch was written by a driver that held the run."""
        said = self.seen().accepts(path)
        return epoch >= self.seen().epoch if said is None else said

    def is_redacted(self, part: Part) -> bool:
        """Whether a deletion left the object like this."""
        if self._tombstones is None:
            self._tombstones = frozenset(
                (p["path"], p["sha256"]) for stone in tombstones(self.store) for p in stone["replaced"]
            )
        return (part.path, part.sha256) in self._tombstones

    def forget_tombstones(self) -> None:
        self._tombstones = None

    # writing

    @property
    def epoch(self) -> int:
        return self._held()[0].epoch

    def writing(self) -> Writer:
        return self._held()[1]

    def create(self, path: str, data: bytes) -> None:
        self._held()[0].check()
        self.store.create(path, data)

    def tell(self, event: Event) -> None:
        """Write an event to the stream. Never blocks and never raises for the store: a run does not rest on it."""
        line = codec.text(event).encode()
        with self._lock:
            if self.writer is None:
                self._early.append(line)
                return
            while self._early:
                self.writer.append("events", self._early.popleft(), wait=False)
            self.writer.append("events", line, wait=False)

    def warn(self, message: str) -> None:
        event = Event("warning", {"message": message}, time=time.time())
        if self.sink:  # whoever listens also writes the stream
            self.sink(event)
        elif not self.read_only:
            self.tell(event)

    def _held(self) -> tuple[Hold, Writer]:
        if self.hold is None or self.writer is None:
            raise LedgerError(
                f"{self.store.uri()} is open for reading only", hint="take the run over first (Ledger.acquire)"
            )
        return self.hold, self.writer


def tombstones(store: Store) -> list[dict[str, Json]]:
    """What deletions left behind: the task's digest and what every rewritten object became."""
    found = []
    for entry in store.list("tombstones/"):
        data = store.read(entry.path)
        value, _ = codec.unpack_part(data, store.uri(entry.path))
        found.append(value)
    return found
