"""The record of a run under its URI, and the only truth about it. Read `Ledger` first, then `rounds.RoundLedger`.

run.json                    configuration, software, seed
epochs/000001.json …        who drives the run; .seen what the take-over found, .beat its heartbeat, .end its release
rounds/0001/tasks.json …    named parts, each written once
rounds/0001/trials/…        records in segments, named by epoch and number
rounds/0001/version/…       folders, listed with their digests in version.files.json
rounds/0001/manifest.json   lists every part with size and digest, written last: the commit
events/…                    what happened, in segments
tombstones/…                which tasks were deleted, and what the objects became that held their texts
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from seal_ray.config import StorageSection
from seal_ray.errors import Fenced, LedgerError, Missing, StorageError
from seal_ray.event_stream import decode_event
from seal_ray.events import Event, Sink
from seal_ray.records import Json, digest, encode
from seal_ray.redaction import logger
from seal_ray.storage import codec, epochs
from seal_ray.storage.codec import Damaged
from seal_ray.storage.connection import Connection, round_of
from seal_ray.storage.objects import StoredObject
from seal_ray.storage.rounds import RoundLedger
from seal_ray.storage.seen import Seen, joined, ranges, read_seen
from seal_ray.storage.store import Store
from seal_ray.storage.uris import check_run_uri

__all__ = ["Ledger", "RoundLedger"]
LOG = logger(__name__)
PROMPT = 1.0  # seconds in which events may follow the records of a flush; they are not waited for


class Ledger:
    """A run's record. Opening it asks the store for nothing; it may be used from several threads."""

    def __init__(
        self, uri: str, settings: StorageSection | None = None, *, read_only: bool = False, sink: Sink | None = None
    ) -> None:
        self.settings = settings or StorageSection()
        self.store = Store(check_run_uri(uri), self.settings, sink)
        self.uri = self.store.uri()
        self.read_only = read_only
        self._connection = Connection(self.store, self.settings, read_only=read_only)
        self._connection.sink = sink
        self._rounds: dict[int, RoundLedger] = {}
        self._lock = threading.RLock()
        self._probed = False

    # the run

    def exists(self) -> bool:
        """Whether there is a run. One without its run.json is refused: a new one would bury it."""
        names = set(self.store.names(""))
        if "run.json" in names:
            return True
        if {"epochs", "rounds"} & names:
            raise LedgerError(
                f"{self.store.uri('run.json')} is gone, but epochs or rounds of a run are there",
                hint="put run.json back from a copy, or choose another run.uri",
            )
        return False

    def create(self, config: Mapping[str, Any], software: Mapping[str, str], seed: int) -> None:
        """Begin a run. If somebody began one there in the meantime it must be the same one."""
        self._probe()
        plain = encode(dict(config))
        value = {"config": plain, "digest": digest(plain), "software": encode(dict(software)), "seed": seed}
        self.store.create("run.json", codec.pack_part("run.json", 0, value))

    def run(self) -> dict[str, Json]:
        """What the run was begun with: config, digest, software, seed."""
        value, _ = codec.unpack_part(self.store.read("run.json"), "run.json", self.store.uri("run.json"))
        return value

    # who drives it

    def acquire(self, owner: str) -> int:
        """Take the run over and keep it with heartbeats; refused while another driver is alive. The epoch."""
        if self.read_only:
            raise LedgerError(f"{self.uri} was opened to read only")
        with self._lock:
            if self._connection.hold:
                return self._connection.hold.epoch
            self._probe()
            hold, seen = epochs.take(self.store, self.settings, owner, self._look)
            self._connection.begin(hold, seen)
            for part in self._rounds.values():
                part.forget()
            return hold.epoch

    def await_predecessor(self, tell: Callable[[epochs.Alive], None]) -> None:
        """Wait while a driver that may be dead still has its lease; `tell` hears of whom. See `epochs`."""
        epochs.await_predecessor(self.store, tell)

    def note(self) -> dict[str, Json]:
        """What the last driver has left for whoever drives the run next."""
        return epochs.last_note(self.store)

    def leave_note(self, note: Callable[[], Json]) -> None:
        """From now on every sign of life carries this, and the release too."""
        assert self._connection.hold, "only whoever drives the run may leave a note"
        self._connection.hold.note = note
        self._connection.hold.confirm()  # a note of an older driver may be cleared away from now on

    def holder(self) -> epochs.Alive | None:
        """Who drives the run now, as anybody can see; needs no take-over."""
        top = epochs.highest(self.store)
        try:
            return epochs.alive(self.store, top) if top else None
        except StorageError:
            if self.store.remote:
                raise
            # a disk's clock is asked by writing, and this one is read-only
            return epochs.alive(self.store, top, time.time())

    def check(self) -> None:
        """Raise `Fenced` if somebody else has taken over. Cheap: the heartbeat asks, this looks at the answer."""
        if self._connection.hold:
            self._connection.hold.check()

    def release(self, within: float | None = None) -> None:
        """Bring what was appended into the store and hand the run over, at once. `within` bounds both, in seconds."""
        with self._lock:
            hold, writer = self._connection.hold, self._connection.writer
            if hold is None or writer is None:
                return
            if within is not None:
                self.store.give_up = time.monotonic() + within
            try:
                writer.flush(within=within)
                until = self.store.give_up
                left = self.settings.timeout if until is None else max(0.0, until - time.monotonic())
                self._connection.flush_events(left)
            finally:
                written = self._connection.written()
                hold.witness = lambda: written
                self._connection.end()
                self._rounds.clear()
                self._end(hold, self.store.give_up)
                self.store.give_up = None

    def _end(self, hold: epochs.Hold, until: float | None) -> None:
        """Hand over; past the time the store is left to answer by itself, and the lease runs out instead."""
        failed: list[BaseException] = []

        def end() -> None:
            try:
                hold.check()
                hold.release()
            except BaseException as error:
                failed.append(error)

        hold.stop()
        # a daemon: a store that does not answer must not keep a process that was asked to stop
        thread = threading.Thread(target=end, name="ledger-release", daemon=True)
        thread.start()
        thread.join(None if until is None else max(0.3, until - time.monotonic()))
        if failed:
            raise failed[0]

    def close(self, within: float | None = None) -> None:
        """Release the run if it is held, and let go of threads.

        Whoever gives a time must leave, whatever the store says: what it does not take is done again on resume.
        """
        try:
            self.release(within)
        except Fenced:
            pass  # the other driver has the run; there is nothing to hand over
        except StorageError as error:
            if within is None:
                raise
            LOG.warning("%s was not brought to its end: %s", self.uri, error)
        finally:
            self.store.close()

    @contextlib.contextmanager
    def held(self, owner: str) -> Iterator[None]:
        """Drive the run for a moment, unless this process does already."""
        if self.holds:
            yield
            return
        self.acquire(owner)
        try:
            yield
        finally:
            self.release()

    @property
    def holds(self) -> bool:
        """Whether this process drives the run."""
        return self._connection.hold is not None

    # rounds

    def round(self, number: int) -> RoundLedger:
        with self._lock:
            if number not in self._rounds:
                self._rounds[number] = RoundLedger(self._connection, number)
            return self._rounds[number]

    def rounds(self) -> list[int]:
        """Every round of which anything is there."""
        return sorted(n for name in self.store.names("rounds/") if (n := round_of(f"rounds/{name}/")))

    def latest(self) -> int:
        """The highest committed round whose manifest is whole; 0 if there is none."""
        return next((n for n in reversed(self.rounds()) if self.round(n).manifest() is not None), 0)

    def manifest(self, number: int) -> dict[str, Json] | None:
        return self.round(number).manifest()

    # events

    def events(self, event: Event) -> None:
        """Append to the event stream. Before the take-over events wait; after the release they are dropped."""
        if not self.read_only:
            self._connection.tell(event)

    def read_events(self, known: dict[StoredObject, list[Event]] | None = None) -> Iterator[Event]:
        """Every event in the order of its driver's telling. Damaged segments are passed over: nothing rests on them.

        `known`: the segments that an earlier look has read, which are not read again; those of this one come to it.
        """
        seen = self._connection.seen()
        there = [e for e in self.store.list("events/") if seen.accepts(e.path)]
        old = known or {}
        fresh = iter(self.store.read_many([e.path for e in there if e not in old]))
        for segment in there:
            told = old[segment] if segment in old else self._events_of(segment.path, next(fresh))
            if told is None:
                continue
            if known is not None:
                known[segment] = told
            yield from told

    def _events_of(self, path: str, data: bytes | StorageError) -> list[Event] | None:
        """The events of a segment; None where the store does not give it."""
        if isinstance(data, StorageError):
            return None
        try:
            _, lines = codec.unpack_segment(data, path, self.store.uri(path))
            return list(map(decode_event, codec.parsed(lines, self.store.uri(path))))
        except Damaged:
            return []

    def flush(self, within: float | None = None) -> None:
        """Come back when everything appended is safe in the store; raises if an upload failed."""
        if self._connection.writer:
            self._connection.writer.flush(within=within)
            self._connection.flush_events(PROMPT)

    def forget(self) -> None:
        """Look everything up again: objects were rewritten."""
        self._connection.forget_tombstones()
        for part in self._rounds.values():
            part.forget()

    # inside

    def _probe(self) -> None:
        if self.store.remote and not self._probed:
            self.store.probe()
        self._probed = True

    def _look(self, epoch: int) -> Seen:
        """What counts for the driver of this epoch: what the one before could know of, and what came since."""
        before = read_seen(self.store, self._connection.warn)
        reader = Connection(self.store, self.settings, read_only=True, seen=before)
        numbers = self.rounds()
        committed = next((n for n in reversed(numbers) if RoundLedger(reader, n).manifest() is not None), 0)
        settled = min(committed, before.committed)
        there = set(numbers)
        files = {path for path in before.files if round_of(path) in there}
        segments: set[str] = set()
        for n in numbers:
            if n <= settled:
                continue
            for entry in self.store.list(f"rounds/{n:04d}/"):
                said = before.accepts(entry.path)
                if said:
                    segments.add(entry.path)
                elif said is None and entry.path.count("/") == 2 and self._written_since(before, entry.path):
                    files.add(entry.path)
        for e in range(before.epoch, epoch):
            segments.update(entry.path for entry in self.store.list(f"events/e{e:06d}-"))
        return Seen(epoch, frozenset(files), joined(before.segments, ranges(segments)), committed)

    def _written_since(self, before: Seen, path: str) -> bool:
        try:
            _, epoch = codec.unpack_part(self.store.read(path), path, self.store.uri(path))
        except (Damaged, Missing):
            return False
        return epoch >= before.epoch
