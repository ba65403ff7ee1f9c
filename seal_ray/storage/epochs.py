"""Who drives a run: one create-only object per take-over, kept alive by heartbeats in the store's time.

An object store can't refuse a write of a driver that was replaced while it slept. So two things keep one history:
a driver makes sure that nobody has replaced it before it writes; and each take-over records what it found (`Seen`),
so that whatever an older epoch writes later is ignored by every reader.
"""

import contextlib
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from seal_ray.config import StorageSection
from seal_ray.errors import AlreadyThere, Fenced, InfraError, Missing, StorageError
from seal_ray.records import Json
from seal_ray.storage import codec
from seal_ray.storage.flags import as_typed
from seal_ray.storage.process_identity import is_dead, this_process
from seal_ray.storage.seen import Seen, seen_path
from seal_ray.storage.store import Store

EPOCH = re.compile(r"([0-9]{6})\.json")


def epoch_path(number: int) -> str:
    return f"epochs/{number:06d}.json"


def highest(store: Store) -> int:
    """The epoch that is on; 0 if there was none."""
    return max((int(m[1]) for n in store.names("epochs/") if (m := EPOCH.fullmatch(n))), default=0)


class Hold:
    """One driver's hold of the run, from take-over to release."""

    def __init__(self, store: Store, settings: StorageSection, epoch: int, confirmed: float) -> None:
        self.epoch = epoch
        self._store, self._lease = store, settings.lease
        # a beat that takes long is worth nothing; the next one comes
        quick = {"patience": settings.lease / 8, "timeout": max(1.0, min(settings.timeout, settings.lease / 4))}
        self._beats = Store(store.root, settings.model_copy(update=quick))
        self._confirmed = confirmed
        self.witness: Callable[[], Seen] = Seen  # what this hold has written, so that `verify` can miss it
        self.note: Callable[[], Json] = dict  # what the driver wants its successor to know, as of now
        self._count = 0
        self._successor = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="ledger-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Raise if somebody else is known to have taken over. Asks the store only when the last answer is old."""
        if not self._successor and clock() - self._confirmed > self._lease / 2:
            self.confirm()
        self._refuse()

    def confirm(self) -> None:
        """Ask the store whether the run is still ours."""
        with self._lock:
            asked = clock()
            self._beat(self._store)
            self._successor = max(self._successor, self._newer(self._store))
            if not self._successor:
                self._confirmed = asked
        self._refuse()

    def stop(self) -> None:
        self._stop.set()

    def release(self) -> None:
        self.stop()
        path = f"epochs/{self.epoch:06d}.end.json"
        value = {"epoch": self.epoch, "written": self.witness().as_json(), "note": self.note()}
        self._store.create(path, codec.pack_part(path, self.epoch, value))

    def _refuse(self) -> None:
        if self._successor:
            raise Fenced(
                f"{self._store.uri()} is driven by somebody else since epoch {self._successor}; this was {self.epoch}",
                hint=f"`seal-ray status {as_typed(self._store.uri(), self._store.settings)}` shows what the other does",
            )

    def _newer(self, store: Store) -> int:
        top = highest(store)
        return top if top > self.epoch else 0

    def _beat(self, store: Store) -> None:
        self._count += 1
        path = f"epochs/{self.epoch:06d}.beat.json"
        value = {"epoch": self.epoch, "beat": self._count, "written": self.witness().as_json(), "note": self.note()}
        store.write(path, codec.pack_part(path, self.epoch, value))

    def _beat_on(self) -> None:
        while not self._stop.wait(self._lease / 4) and not self._successor:
            # a beat that fails is made up for by the next; when none comes through, `check` asks and raises
            with contextlib.suppress(StorageError), self._lock:
                asked = clock()
                self._beat(self._beats)
                self._successor = max(self._successor, self._newer(self._beats))
                if not self._successor:
                    self._confirmed = asked


def take(store: Store, settings: StorageSection, owner: str, look: Callable[[int], Seen]) -> tuple[Hold, Seen]:
    """Take the run over, unless its holder is alive. `look` finds what counts from now on."""
    top = highest(store)
    if top:
        _refuse_if_held(store, top)
    asked = clock()
    mine = {"owner": owner, "lease": settings.lease, "nonce": uuid.uuid4().hex, "process": this_process()}
    try:
        store.create(epoch_path(top + 1), codec.pack_part(epoch_path(top + 1), top + 1, mine))
    except AlreadyThere:
        _refuse_if_held(store, top + 1)
        raise InfraError(
            f"{store.uri()}: another driver has just taken epoch {top + 1}", hint="start the same command again"
        ) from None
    hold = Hold(store, settings, top + 1, asked)
    hold.start()
    try:
        seen = look(top + 1)
        path = seen_path(top + 1)
        store.create(path, codec.pack_part(path, top + 1, seen.as_json()))
        # a store whose create-only is a look and then a write lets two drivers in; one of them finds out here
        if holder(store, top + 1)["nonce"] != mine["nonce"]:
            raise InfraError(
                f"{store.uri()}: another driver has taken epoch {top + 1} over ours: this store does not honour "
                "create-only writes",
                hint="`seal-ray doctor` tries that; use a store that has conditional puts",
            )
    except BaseException:
        hold.stop()
        raise
    return hold, seen


def holder(store: Store, epoch: int) -> dict[str, Json]:
    path = epoch_path(epoch)
    value, _ = codec.unpack_part(store.read(path), path, store.uri(path))
    return value


@dataclass(frozen=True)
class Alive:
    """A driver that holds a run, and until when by the store's clock."""

    owner: str
    epoch: int
    until: float
    now: float


def alive(store: Store, epoch: int, now: float | None = None) -> Alive | None:
    """Who holds this epoch, if anybody does; by the store's clock, unless another is given."""
    try:
        said = holder(store, epoch)
    except codec.Damaged:
        return None  # written whole or not at all: somebody's hand was in it, and nobody can hold it
    if store.exists(f"epochs/{epoch:06d}.end.json") or is_dead(said["process"]):
        return None
    try:
        beat = store.info(f"epochs/{epoch:06d}.beat.json").modified
    except Missing:
        beat = store.info(epoch_path(epoch)).modified
    # S3 stamps objects in whole seconds
    until = beat + said["lease"] + (1 if store.remote else 0)
    now = store.now() if now is None else now
    return Alive(said["owner"], epoch, until, now) if now < until else None


def await_predecessor(store: Store, tell: Callable[[Alive], None]) -> None:
    """Come back when the last driver's lease has run out, or when it turns out that it lives: `take` refuses then.

    A driver that was killed leaves a lease behind; whoever starts it again must not fail for that.
    """
    top = highest(store)
    first = alive(store, top) if top else None
    if first is None:
        return
    tell(first)
    while True:
        time.sleep(min(1.0, max(0.05, first.until - first.now)))
        now = alive(store, highest(store))
        if now is None or now.epoch != first.epoch or now.until > first.until:
            return


def last_note(store: Store) -> dict[str, Json]:
    """What the last driver that left a note wanted its successor to know."""
    names = store.names("epochs/")
    for epoch in sorted({int(n[:6]) for n in names if EPOCH.fullmatch(n)}, reverse=True):
        for kind in ("end", "beat"):
            path = f"epochs/{epoch:06d}.{kind}.json"
            if f"{epoch:06d}.{kind}.json" not in names:
                continue
            try:
                value, _ = codec.unpack_part(store.read(path), path, store.uri(path))
            except (codec.Damaged, Missing):
                continue
            if value.get("note"):
                return value["note"]
    return {}


def _refuse_if_held(store: Store, epoch: int) -> None:
    driver = alive(store, epoch)
    if driver is None:
        return
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(driver.until))
    raise InfraError(
        f"{store.uri()} is driven by {driver.owner} (epoch {epoch}), by its last sign of life until {when}",
        hint=f"stop that driver, or if it is dead start the same command again in {driver.until - driver.now:.0f} s",
    )


def clock() -> float:
    """Seconds that go on while this process or machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
