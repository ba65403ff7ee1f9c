"""One process's connection to a run: the store, what counts as written, and its hold and writers if it drives."""

import contextlib
import re
import threading
import time
from collections import deque

from seal_ray.config import StorageSection
from seal_ray.errors import LedgerError, SealError
from seal_ray.event_stream import encode_event
from seal_ray.events import Event, Sink, Warned
from seal_ray.storage import codec
from seal_ray.storage.epochs import Hold
from seal_ray.storage.objects import Part
from seal_ray.storage.seen import Seen, ranges, read_seen
from seal_ray.storage.segments import Writer, parse
from seal_ray.storage.store import Store
from seal_ray.storage.tombstones import tombstones

ROUND = re.compile(r"[0-9]{4}|[1-9][0-9]{4,7}")  # how a round's folder is called
BEFORE = 10_000  # events that are kept until there is a hold to write them under


class Connection:
    """Shared by a ledger and its rounds. `hold` and the writers are there from take-over to release.

    Records go through `writer`, events through a writer of their own: a run does not rest on events, so whatever
    happens to them neither stops nor delays it.
    """

    def __init__(self, store: Store, settings: StorageSection, *, read_only: bool, seen: Seen | None = None) -> None:
        self.store, self.settings, self.read_only = store, settings, read_only
        self.hold: Hold | None = None
        self.writer: Writer | None = None
        self._event_writer: Writer | None = None
        self._event_store: Store | None = None
        self._created: set[str] = set()  # named parts that this hold has written in rounds that are not committed
        self.sink: Sink | None = None
        self._seen, self._pinned, self._looked = seen or Seen(), seen is not None, 0.0
        self._tombstones: frozenset[tuple[str, str]] | None = None
        self._early: deque[bytes] = deque(maxlen=BEFORE)
        self.committed = 0  # the highest round that this process knows to be committed
        self._lock = threading.RLock()

    # what counts

    def seen(self) -> Seen:
        """For a driver what its take-over found; for a reader what the latest one did, looked up every second."""
        with self._lock:
            if not self._pinned and time.monotonic() - self._looked > 1:
                self._seen, self._looked = read_seen(self.store), time.monotonic()
            return self._seen

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
        with self._lock:
            self._created.add(path)

    def begin(self, hold: Hold, seen: Seen) -> None:
        """The run was taken over."""
        with self._lock:
            self._seen, self._pinned = seen, True
            self.hold, self.writer = hold, Writer(self.store, self.settings, hold.epoch, hold.check)
            self._event_store = Store(self.store.root, self.settings, self.sink)
            self._event_writer = Writer(self._event_store, self.settings, hold.epoch, hold.check, relied_on=False)
            self._created.clear()
            self.committed = seen.committed
            hold.witness = self.written

    def end(self) -> None:
        """The run is handed over: nothing is taken any more."""
        with self._lock:
            writer, events, store = self.writer, self._event_writer, self._event_store
            self.hold = self.writer = self._event_writer = self._event_store = None
            self._pinned, self._looked = False, 0.0
        if writer:
            writer.close()
        if events and store:
            if events.dropped and self.sink:
                message = f"{events.dropped} events could not be kept in {self.store.uri('events')}"
                self.sink(Warned(message))
            events.close()
            store.give_up = time.monotonic()
            store.close()

    def forget(self, prefix: str) -> None:
        """What was written below there is told of by a manifest, and by no sign of life from now on."""
        with self._lock:
            self._created = {path for path in self._created if not path.startswith(f"{prefix}/")}
            if self.writer:
                self.writer.forget(f"{prefix}/")

    def written(self) -> Seen:
        """What this hold has brought into the store so far, but for committed rounds: their manifests vouch for it."""
        with self._lock:
            hold, writer, created = self.hold, self.writer, set(self._created)
        if hold is None or writer is None:
            return Seen()
        done = self.committed
        paths = {p for p in [*writer.landed_paths(), *created] if round_of(p) > done}
        return Seen(hold.epoch, frozenset(p for p in paths if not parse(p)), ranges(paths), done)

    def flush_events(self, within: float) -> None:
        """Bring the events into the store as far as it lets us in that time."""
        if self._event_writer:
            with contextlib.suppress(SealError):
                self._event_writer.flush(within=within)

    def tell(self, event: Event) -> None:
        """Write an event to the stream. Never blocks and never raises for the store."""
        line = codec.text(encode_event(event)).encode()
        with self._lock:
            if self._event_writer is None:
                self._early.append(line)
                return
            while self._early:
                self._event_writer.append("events", self._early.popleft())
            self._event_writer.append("events", line)

    def warn(self, message: str) -> None:
        event = Warned(message, time=time.time())
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


def round_of(path: str) -> int:
    """The round that an object belongs to; 0 for what belongs to none."""
    steps = path.split("/")
    return int(steps[1]) if steps[0] == "rounds" and len(steps) > 2 and ROUND.fullmatch(steps[1]) else 0
