"""A model of a run with two drivers: what was acknowledged, what is committed, and what may happen to it.

The drivers live in this process; each has a store that can be cut off (a kill: nothing it does arrives any more) or
held (a pause: what it writes arrives later, after it was replaced). What must hold is said in one sentence a check.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ledger_samples import segment, trial

from seal_ray.config import StorageSection
from seal_ray.errors import Fenced, InfraError, LedgerError, SealError, StorageError
from seal_ray.records import Trial, Verdict
from seal_ray.storage import codec
from seal_ray.storage.deletion import delete_task
from seal_ray.storage.garbage import gc
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.store import Store
from seal_ray.storage.verification import verify

# segments are closed by a flush alone, so that every history is the same each time it is played
SETTINGS = StorageSection(patience=0, segment_bytes=100_000, segment_seconds=3600, lease=3600)
NAMES = ("a", "b")
TASKS = ("one", "two")


class Driver:
    """A driver, and what its store lets through."""

    def __init__(self, uri: str, name: str) -> None:
        self.ledger, self.name, self.dead = Ledger(uri, SETTINGS), name, False
        self.refuses = False  # its store takes nothing new for the moment
        self.epoch = 0
        real = self.ledger.store._do

        def do(operation: str, path: str, call: Callable[[], Any], **nothing: Any) -> Any:
            if self.dead:
                raise StorageError(f"{operation} {path}: killed")
            if self.refuses and operation == "create" and "/trials/" in path:
                raise StorageError(f"{operation} {path}: not now")
            return real(operation, path, call, **nothing)

        self.ledger.store._do = do

    def die(self) -> None:
        """Nothing that it does arrives any more; whoever looks finds its process gone."""
        hold, self.dead = self.ledger._connection.hold, True
        assert hold
        hold.stop()
        self.ledger._connection.end()

    @property
    def holds(self) -> bool:
        return self.ledger.holds


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="ledger-machine-")
        self.uri = str(Path(self.folder, "run"))
        Ledger(self.uri, SETTINGS).create({}, {}, 0)
        self.drivers = {name: Driver(self.uri, name) for name in NAMES}
        self.taken: dict[str, dict[str, Trial]] = {name: {} for name in NAMES}  # appended, not yet flushed
        self.safe: dict[int, dict[str, Trial]] = {}  # flushed: round -> id -> what counts
        self.committed: dict[int, dict[str, Any]] = {}
        self.deleted: set[str] = set()
        self.late: dict[str, str] = {}  # written by drivers that had been replaced: id -> path
        self.damaged = False
        self.count = 0
        self.take_over("a")

    def teardown(self) -> None:
        self.the_run_is_whole()
        for driver in self.drivers.values():
            driver.dead = True
            if hold := driver.ledger._connection.hold:
                hold.stop()
            driver.ledger._connection.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    # who drives

    def holder(self) -> Driver | None:
        return next((d for d in self.drivers.values() if d.holds and not d.dead and self.is_latest(d)), None)

    def driving(self, name: str) -> Driver | None:
        """The driver of that name if it drives or believes so, else the other one, else nobody."""
        both = (self.drivers[name], self.drivers[NAMES[1 - NAMES.index(name)]])
        return next((d for d in both if d.holds and not d.dead), None)

    def is_latest(self, driver: Driver) -> bool:
        return driver.epoch == max(d.epoch for d in self.drivers.values())

    @rule(name=st.sampled_from(NAMES))
    def take_over(self, name: str) -> None:
        driver, holder = self.drivers[name], self.holder()
        if driver.dead:
            self.drivers[name] = driver = Driver(self.uri, name)
        was = driver.holds
        try:
            driver.epoch = driver.ledger.acquire(name)
        except InfraError as error:
            assert "is driven by" in str(error) and holder is not None and holder is not driver
            return
        assert was or holder is None, "two drivers hold the run"
        if not was:
            self.taken[name] = {}

    @rule(name=st.sampled_from(NAMES))
    def release(self, name: str) -> None:
        driver = self.driving(name)
        if not driver:
            return
        try:
            driver.ledger.release()
        except Fenced:
            assert not self.is_latest(driver)
            self.taken[driver.name] = {}
        else:
            self.acknowledge(driver)

    @rule(name=st.sampled_from(NAMES))
    def kill(self, name: str) -> None:
        driver = self.driving(name)
        if driver:
            driver.die()
            self.taken[driver.name] = {}
            self.look_dead(driver)

    @rule(name=st.sampled_from(NAMES), late=st.booleans())
    def replace(self, name: str, late: bool) -> None:
        """The other one takes over from a driver that sleeps, and that goes on afterwards."""
        sleeper = self.driving(name)
        if not sleeper or not self.is_latest(sleeper):
            return
        other = self.drivers[NAMES[1 - NAMES.index(sleeper.name)]]
        if other.holds and not other.dead:
            return
        hold = sleeper.ledger._connection.hold
        assert hold
        hold.stop()
        hold._confirmed -= 10 * SETTINGS.lease
        self.look_dead(sleeper)
        if other.dead:
            other = self.drivers[other.name] = Driver(self.uri, other.name)
        other.epoch = other.ledger.acquire(other.name)
        self.taken[other.name] = {}
        if late:
            self.arrives_late(sleeper)

    def look_dead(self, driver: Driver) -> None:
        """As if its lease had run out: it ended without a word, and the store's clock went on."""
        path = f"epochs/{driver.epoch:06d}.json"
        store = Store(self.uri, SETTINGS)
        value, epoch = codec.unpack_part(store.read(path), path, path)
        store.write(path, codec.pack_part(path, epoch, value | {"lease": -10.0}))

    # what it does

    @rule(name=st.sampled_from(NAMES), task=st.sampled_from(TASKS), again=st.booleans())
    def append(self, name: str, task: str, again: bool) -> None:
        driver = self.driving(name)
        if not driver or task in self.deleted:
            return
        number = self.open_round()
        known = self.safe.get(number, {}) | self.taken[driver.name]
        try:
            if again and known:
                id_ = sorted(known)[0]
                if driver.ledger.round(number).append("trials", trial(id_, worker="a second record")):
                    assert not self.is_latest(driver) or id_ not in known
                return
            self.count += 1
            new = trial(f"c{self.count}", task, worker=driver.name)
            if driver.ledger.round(number).append("trials", new):
                driver.ledger.round(number).append("verdicts", Verdict(new.id, "q", "g", True, 1.0))
                self.taken[driver.name][new.id] = new
        except Fenced:  # one that was replaced, and has learned it from an upload
            assert not self.is_latest(driver), "the run's driver was fenced"

    @rule(name=st.sampled_from(NAMES))
    def flush(self, name: str) -> None:
        driver = self.driving(name)
        if not driver:
            return
        try:
            driver.ledger.flush()
        except Fenced:
            assert not self.is_latest(driver), "the run's driver was fenced"
            return
        assert self.is_latest(driver) or not self.taken[driver.name], "a driver that had been replaced was let through"
        self.acknowledge(driver)

    @rule(name=st.sampled_from(NAMES))
    def append_while_the_store_refuses(self, name: str) -> None:
        """What can't be taken has no id: it is taken when it comes again."""
        driver = self.driving(name)
        if not driver or not self.is_latest(driver):
            return
        part = driver.ledger.round(self.open_round())
        self.count += 1
        waits, refused = (trial(f"{kind}-{self.count}", "one", worker=driver.name) for kind in ("waits", "refused"))
        driver.refuses = True
        assert part.append("trials", waits)
        with contextlib.suppress(StorageError):
            driver.ledger.flush()
        try:
            part.append("trials", refused)
            raise AssertionError("taken, though an upload had failed")
        except StorageError:
            driver.refuses = False
        driver.ledger.flush()
        assert part.append("trials", refused), "a record that was not taken keeps its id"
        self.taken[driver.name] |= {waits.id: waits, refused.id: refused}
        for new in (waits, refused):
            part.append("verdicts", Verdict(new.id, "q", "g", True, 1.0))

    @rule(name=st.sampled_from(NAMES))
    def commit(self, name: str) -> None:
        driver = self.driving(name)
        if not driver:
            return
        number = self.open_round()
        try:
            driver.ledger.round(number).commit({"by": driver.epoch})
        except Fenced:
            assert not self.is_latest(driver)
            return
        assert self.is_latest(driver), "a driver that had been replaced committed"
        self.acknowledge(driver)
        manifest = Ledger(self.uri, SETTINGS, read_only=True).manifest(number)
        assert manifest
        self.committed[number] = manifest

    @rule(name=st.sampled_from(NAMES))
    def write_late(self, name: str) -> None:
        driver = self.drivers[name]
        if driver.epoch and not self.is_latest(driver):
            self.arrives_late(driver)

    def arrives_late(self, driver: Driver) -> None:
        """What was on its way when its driver was replaced arrives all the same."""
        self.count += 1
        number, new = self.open_round(), trial(f"late-{self.count}", "one", worker="late")
        path = f"rounds/{number:04d}/trials/e{driver.epoch:06d}-{90_000_000 + self.count:08d}.jsonl"
        segment(Store(self.uri, SETTINGS), path, new)
        self.late[new.id] = path

    # what happens to it from outside

    @rule(task=st.sampled_from(TASKS))
    def delete(self, task: str) -> None:
        if any(d.holds and not d.dead for d in self.drivers.values()):
            return
        try:
            delete_task(Ledger(self.uri, SETTINGS), task)
        except SealError as error:
            assert "holds no task" in str(error)
            return
        self.renumber()
        for records in self.safe.values():
            for id_ in [i for i, t in records.items() if t.task == task]:
                del records[id_]

    @rule()
    def clear_away(self) -> None:
        if not any(d.holds and not d.dead for d in self.drivers.values()):
            gc(Ledger(self.uri, SETTINGS), dry_run=False)
            self.renumber()

    @precondition(lambda self: not self.damaged and self.safe)
    @rule(place=st.floats(0, 0.999), bit=st.integers(0, 7), which=st.integers(0, 10**6))
    def damage_is_named(self, place: float, bit: int, which: int) -> None:
        """A bit flips in a copy of the run: verify names the object, and a reader reads the rest."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "run")
            shutil.copytree(self.uri, copy)
            unread = set(self.late.values())  # nobody reads them, and a commit does not list them
            files = sorted(p for p in copy.rglob("*.json*") if str(p.relative_to(copy)) not in unread)
            victim = files[which % len(files)]
            data = bytearray(victim.read_bytes())
            data[int(len(data) * place)] ^= 1 << bit
            victim.write_bytes(data)
            path = str(victim.relative_to(copy))
            reader = Ledger(str(copy), SETTINGS, read_only=True)
            assert path in [p.path for p in verify(reader)], f"{path} is damaged, and verify does not say so"
            for number in self.safe:
                try:
                    read = reader.round(number).records("trials")
                except LedgerError as error:
                    assert path.rpartition("/")[2] in str(error)
                else:
                    assert all(read[i].worker == t.worker for i, t in self.safe[number].items() if i in read)

    # what must hold

    @invariant()
    def nothing_acknowledged_is_lost_and_nothing_late_counts(self) -> None:
        reader = Ledger(self.uri, SETTINGS, read_only=True)
        for number, expected in self.safe.items():
            read = reader.round(number).records("trials")
            assert {i: read.get(i) for i in expected} == expected, "an acknowledged record is lost or another"
            assert not self.late.keys() & read.keys(), "what a replaced driver wrote late counts"
            verdicts = reader.round(number).records("verdicts")
            assert {v.candidate for v in verdicts.values()} >= expected.keys()

    @invariant()
    def what_is_committed_stays(self) -> None:
        reader = Ledger(self.uri, SETTINGS, read_only=True)
        assert reader.latest() == max(self.committed, default=0)
        for number, manifest in self.committed.items():
            assert reader.manifest(number) == manifest, "a commit was altered"

    @rule()
    def the_run_is_whole(self) -> None:
        grave = [p for p in verify(Ledger(self.uri, SETTINGS, read_only=True)) if p.grave]
        assert not grave, grave

    def acknowledge(self, driver: Driver) -> None:
        self.safe.setdefault(self.open_round(), {}).update(self.taken[driver.name])
        self.taken[driver.name] = {}

    def open_round(self) -> int:
        return max(self.committed, default=0) + 1

    def renumber(self) -> None:
        """Deleting and clearing away are take-overs too."""
        top = max(int(p.name[:6]) for p in Path(self.uri, "epochs").iterdir())
        for driver in self.drivers.values():
            if driver.epoch:
                driver.epoch = min(driver.epoch, top)
