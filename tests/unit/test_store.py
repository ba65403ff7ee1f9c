"""Objects under a URI: what is promised on every kind of store, shown on a disk and in memory."""

import errno
import os
import pickle
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meeting import Meeting

from seal_ray.config import StorageSection
from seal_ray.errors import AlreadyThere, ConfigError, Missing, StorageError
from seal_ray.events import Event, StoreRetried
from seal_ray.storage import store_errors
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.local_files import LocalFiles
from seal_ray.storage.seen import Seen, joined, named, ranges
from seal_ray.storage.segments import parse, segment_path
from seal_ray.storage.store import Store, check_uri, is_local

QUICK = StorageSection(patience=2)


@pytest.fixture(params=["disk", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    uri = {"disk": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://{uuid.uuid4().hex}"}
    return Store(uri[request.param], QUICK)


def test_what_was_written_is_read_listed_and_deleted(store: Store) -> None:
    store.write("a/one.json", b"1")
    store.write("a/one.json", b"two")
    store.create("a/deep/er.json", b"3")
    store.create("b", b"")
    assert store.read("a/one.json") == b"two"
    assert [(e.path, e.size) for e in store.list()] == [("a/deep/er.json", 1), ("a/one.json", 3), ("b", 0)]
    assert [e.path for e in store.list("a/o")] == ["a/one.json"]
    assert store.names("a/") == ["deep", "one.json"]
    assert store.list("nothing/") == [] and store.names("nothing/") == []
    assert store.exists("b") and not store.exists("c") and not store.exists("a")
    store.delete("b")
    store.delete("b")
    assert not store.exists("b")
    assert abs(store.now() - store.info("a/one.json").modified) < 60


def test_what_is_missing_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"gone\.json"):
        store.read("gone.json")
    with pytest.raises(Missing, match="folder"):
        store.download([("folder/a", "a", 1)], tmp_path)


def test_create_never_replaces_and_takes_the_same_content_for_its_own(store: Store) -> None:
    store.create("once", b"first")
    store.create("once", b"first")
    with pytest.raises(AlreadyThere, match="once"):
        store.create("once", b"second")
    assert store.read("once") == b"first"
    store.probe()
    assert [e.path for e in store.list()] == ["once"]


def test_of_many_creators_one_wins(store: Store) -> None:
    for race in range(20):
        won: list[int] = []
        ready = threading.Barrier(6)

        def create(number: int, race: int = race, won: list[int] = won, ready: threading.Barrier = ready) -> None:
            ready.wait()
            try:
                store.create(f"race-{race}", b"%d" % number)
                won.append(number)
            except AlreadyThere:
                pass

        threads = [threading.Thread(target=create, args=(n,)) for n in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(won) == 1
        assert store.read(f"race-{race}") == b"%d" % won[0]


def test_a_folder_goes_up_and_comes_down_unchanged(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "a.bin").write_bytes(os.urandom(100_000))
    (source / "deep" / "b.txt").write_text("text")
    parts = store.upload_dir(source, "kept/here")
    assert [p.path for p in parts] == ["kept/here/a.bin", "kept/here/deep/b.txt"]
    assert store.upload_dir(source, "kept/here") == parts
    assert (
        store.download([(p.path, p.path.removeprefix("kept/here/"), p.size) for p in parts], tmp_path / "target")
        == parts
    )
    assert (tmp_path / "target/a.bin").read_bytes() == (source / "a.bin").read_bytes()
    assert sorted(p.name for p in (tmp_path / "target").iterdir()) == ["a.bin", "deep"]
    (source / "a.bin").write_bytes(b"other")
    with pytest.raises(AlreadyThere, match=r"a\.bin"):
        store.upload_dir(source, "kept/here")


def test_a_writer_that_died_leaves_nothing_that_anybody_reads(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.create("a", b"whole")
    (tmp_path / ".tmp-123-abc").write_bytes(b"ha")
    assert [e.path for e in store.list()] == ["a"] and store.names("") == ["a"]


def test_the_object_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path), QUICK)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"a\.json.*No space left.*make room"):
        store.create("a.json", b"x" * 1000)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_can_not_be_written_is_named_with_its_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/run/a.*correct the URI"):
        Store(str(tmp_path / "file" / "run"), QUICK).create("a", b"1")
    with pytest.raises(StorageError, match="/proc/nowhere"):
        Store("/proc/nowhere", QUICK).create("a", b"1")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3:/bucket/run", "no ://"),
        ("s3:bucket", "no ://"),
        ("s33://bucket/run", "nothing here reads s33"),
        ("s3://", "names no bucket"),
        ("s3:///run", "names no bucket"),
        ("", "is no place"),
        (" s3://b/run", "is no place"),
        ("s3://key:hunter2@bucket/run", "password"),
    ],
)
def test_a_typo_in_a_uri_is_found_before_anything_is_written(uri: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as found:
        Store(uri)
    assert "hunter2" not in str(found.value)


def test_uris_that_are_right_stay_what_they_are() -> None:
    for uri in ("runs/a", "/tmp/x", "s3://bucket/a/b", "file:///tmp/x", "memory://x", "C/odd:name"):
        assert check_uri(uri) == uri
    assert check_uri("s3a://bucket/run/") == "s3://bucket/run"
    assert is_local("runs/a") and is_local("file:///x") and not is_local("s3://b/x")


def test_no_path_leaves_the_root(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    for path in ("../out", "a/../../out", "/etc/passwd", "a//b", ""):
        with pytest.raises(StorageError, match="not a path below"):
            store.write(path, b"x")


class Flaky(LocalFiles):
    """A disk that fails as it is told, once for each error."""

    def __init__(self, root: str, errors: list[Exception], after: bool = False) -> None:
        super().__init__(root)
        self.errors, self.after, self.calls = errors, after, 0

    def create(self, key: str, data: bytes) -> None:
        self.calls += 1
        if self.after:
            super().create(key, data)
        if self.errors:
            raise self.errors.pop(0)
        if not self.after:
            super().create(key, data)


def answer(code: str, kind: type[Exception] = OSError) -> Exception:
    """An error as s3fs translates it: ours to tell apart by the store's own code."""
    cause = Exception(code)
    cause.response = {"Error": {"Code": code}}  # pyright: ignore[reportAttributeAccessIssue]
    error = kind(errno.EINVAL, code)
    error.__cause__ = cause
    return error


def test_what_passes_is_tried_again_and_told(tmp_path: Path) -> None:
    told: list[Event] = []
    store = Store(str(tmp_path), StorageSection(patience=60), told.append)
    passing = ["SlowDown", "ServiceUnavailable", "ConditionalRequestConflict", "InternalError", "RequestTimeout"]
    store._backend = flaky = Flaky(str(tmp_path), [*map(answer, passing), ConnectionResetError("reset")])
    store.create("a", b"1")
    assert flaky.calls == 7 and store.read("a") == b"1"
    assert [e.attempt for e in told if isinstance(e, StoreRetried)] == [1, 2, 3, 4, 5, 6]


def test_what_can_not_pass_is_not_tried_again(tmp_path: Path) -> None:
    for error in (answer("AccessDenied", PermissionError), answer("InvalidArgument"), OSError(errno.ENOSPC, "full")):
        store = Store(str(tmp_path), StorageSection(patience=60))
        store._backend = flaky = Flaky(str(tmp_path), [error])
        with pytest.raises(StorageError):
            store.create("a", b"1")
        assert flaky.calls == 1


def test_without_patience_nothing_is_tried_again(tmp_path: Path) -> None:
    store = Store(str(tmp_path), StorageSection(patience=0))
    store._backend = flaky = Flaky(str(tmp_path), [answer("SlowDown") for _ in range(9)])
    with pytest.raises(StorageError, match="SlowDown"):
        store.create("a", b"1")
    assert flaky.calls == 1


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Outage(LocalFiles):
    """A disk that answers nothing until a time."""

    def __init__(self, root: str, clock: Clock, until: float) -> None:
        super().__init__(root)
        self.clock, self.until = clock, until

    def create(self, key: str, data: bytes) -> None:
        if self.clock.now < self.until:
            raise ConnectionResetError("reset")
        super().create(key, data)


def test_an_outage_is_waited_out_by_the_clock_and_not_by_a_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Event] = []
    store = Store(str(tmp_path), StorageSection(), told.append)
    store.create("before", b"1")
    clock = Clock(monkeypatch)
    for number, seconds in enumerate((3, 10, 60, 170)):
        store._backend = Outage(str(tmp_path), clock, clock.now + seconds)
        store.create(f"a{number}", b"1")
    left = [e.left for e in told if isinstance(e, StoreRetried)]
    assert len(left) > 50 and 0 < left[-1] < 15
    store._backend = Outage(str(tmp_path), clock, clock.now + 200)
    with pytest.raises(StorageError, match="did not answer"):
        store.create("b", b"1")


def test_patience_is_shared_by_all_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    store = Store(str(tmp_path), StorageSection(patience=100))
    store.create("before", b"1")
    store._backend = Outage(str(tmp_path), clock, clock.now + 1000)
    ended = []
    for number in range(8):
        with pytest.raises(StorageError):
            store.create(f"a{number}", b"1")
        ended.append(clock.now)
    assert ended[0] == pytest.approx(1100, abs=6)
    assert ended[-1] == pytest.approx(ended[0], abs=6)  # and not eight times the patience
    clock.now = 2500.0
    store.create("after", b"1")
    store._backend = Outage(str(tmp_path), clock, clock.now + 90)
    store.create("after-the-next-outage", b"1")


def test_no_wait_goes_beyond_the_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    for number in range(30):  # a wait is drawn by chance: one of them would go beyond
        store = Store(str(tmp_path), StorageSection(patience=100))
        store.create(f"before-{number}", b"1")
        store._backend, gone = Outage(str(tmp_path), clock, clock.now + 1000), clock.now
        with pytest.raises(StorageError):
            store.create(f"a{number}", b"1")
        assert clock.now - gone == pytest.approx(100, abs=0.001)


def test_a_store_that_never_answered_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    store = Store(str(tmp_path), StorageSection(patience=1000))
    store._backend = Outage(str(tmp_path), clock, clock.now + 500)
    with pytest.raises(StorageError):
        store.create("a", b"1")
    assert clock.now < 1030


def test_after_a_lost_reply_a_retry_knows_its_own_object(tmp_path: Path) -> None:
    store = Store(str(tmp_path), QUICK)
    store._backend = Flaky(str(tmp_path), [ConnectionResetError("lost reply")], after=True)
    store.create("a", b"mine")
    (tmp_path / "b").write_bytes(b"theirs")
    with pytest.raises(AlreadyThere):
        store.create("b", b"mine")


def test_a_failed_condition_is_known_in_each_of_its_forms() -> None:
    assert store_errors.says_exists(FileExistsError("there"))
    assert store_errors.says_exists(answer("PreconditionFailed"))
    assert not store_errors.says_exists(answer("InvalidArgument"))
    assert not store_errors.says_exists(answer("ConditionalRequestConflict"))


def test_no_secret_reaches_an_error() -> None:
    found = store_errors.translate(
        PermissionError("denied: x-amz-security-token=AbC123&Signature=deadbeef https://me:hunter2@host/"),
        "read",
        "s3://b",
    )
    assert not any(secret in str(found) for secret in ("AbC123", "deadbeef", "hunter2"))


def test_as_many_objects_are_read_at_once_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"memory://{uuid.uuid4().hex}", StorageSection(parallel=3))
    paths = [f"object-{n}" for n in range(12)]
    for path in paths:
        store.create(path, path.encode())
    meeting, read = Meeting(3), store._backend.read

    def together(path: str) -> bytes:
        with meeting.join():
            return read(path)

    monkeypatch.setattr(store._backend, "read", together)
    assert list(store.read_many(paths)) == [path.encode() for path in paths]
    assert meeting.most == 3
    store.close()


def test_a_store_travels_to_another_process(tmp_path: Path) -> None:
    Store(str(tmp_path)).write("a", b"1")
    assert pickle.loads(pickle.dumps(Store(str(tmp_path), QUICK))).read("a") == b"1"


@pytest.mark.parametrize(
    "uri", ["zip://run.zip", "reference://x", "http://host/run", "github://me:repo@main/x", "tar://x"]
)
def test_a_run_is_kept_where_objects_can_be_created(uri: str) -> None:
    with pytest.raises(ConfigError):
        Ledger(uri)


def test_the_files_of_a_run_are_nobody_elses(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/w").write_bytes(b"1")
    before = os.umask(0)
    try:
        store.create("a", b"1")
        store.write("b", b"1")
        store.upload_dir(tmp_path / "weights", "v")
    finally:
        os.umask(before)
    assert [oct((tmp_path / "run" / p).stat().st_mode & 0o777) for p in ("a", "b", "v/w")] == ["0o660"] * 3


@given(st.lists(st.integers(1, 60)), st.lists(st.integers(1, 60)))
def test_runs_of_numbers_are_joined_as_sets_are(old: list[int], new: list[int]) -> None:
    def made(numbers: list[int]) -> dict[str, dict[int, tuple[tuple[int, int], ...]]]:
        return ranges(segment_path("rounds/0001/trials", 3, n) for n in numbers)

    assert joined(made(old), made(new)) == made(sorted({*old, *new}))
    folder, seen = "rounds/0001/trials", Seen(4, frozenset(), made(old))
    gone = seen.missing(folder, [segment_path(folder, 3, n) for n in new])
    assert [path for path, _ in named(folder, gone)] == [segment_path(folder, 3, n) for n in sorted({*old} - {*new})]
    assert {n for n in range(1, 61) if seen.accepts(segment_path(folder, 3, n))} == {*old}


class Counted(tuple):  # type: ignore[type-arg]
    """Runs of numbers that count how often one of them is looked at."""

    looks = 0

    def __getitem__(self, at: Any) -> Any:
        Counted.looks += 1
        return super().__getitem__(at)

    def __iter__(self) -> Iterator[Any]:
        for one in super().__iter__():
            Counted.looks += 1
            yield one


def test_whether_a_segment_counts_is_told_without_looking_at_every_hole() -> None:
    holes = 20_000
    seen = Seen(4, frozenset(), {"rounds/0001/trials": {3: Counted((2 * n, 2 * n) for n in range(1, holes))}})
    Counted.looks = 0
    for number in range(1, 2 * holes, 997):
        assert seen.accepts(segment_path("rounds/0001/trials", 3, number)) is (number % 2 == 0)
    assert 0 < Counted.looks < 25 * len(range(1, 2 * holes, 997))


@pytest.mark.parametrize("path", ["e000001-00000001.jsonl", "a/e1-2.jsonl", "a/e000001-00000001.json", "a/x", ""])
def test_what_is_no_segment_is_not_taken_for_one(path: str) -> None:
    assert parse(path) is None and parse("a/b/e000012-00000345.jsonl") == ("a/b", 12, 345)
