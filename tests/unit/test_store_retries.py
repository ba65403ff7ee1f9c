"""What goes wrong on the way to a store: what may pass is tried again while patience lasts, the rest is said."""

import errno
import time
from pathlib import Path

import pytest

from seal_ray.config import StorageSection
from seal_ray.errors import AlreadyThere, StorageError
from seal_ray.events import Event, StoreRetried
from seal_ray.storage import store_errors
from seal_ray.storage.local_files import LocalFiles
from seal_ray.storage.store import Store


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
    store = Store(str(tmp_path), StorageSection(patience=2))
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
