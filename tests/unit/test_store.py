"""Objects under a URI: what is promised on every kind of store, shown on a disk and in memory."""

import errno
import os
import pickle
import threading
import uuid
from pathlib import Path

import pytest
from meeting import Meeting
from unlistable import unlistable

from seal_ray.config import StorageSection
from seal_ray.errors import AlreadyThere, ConfigError, Missing, StorageError
from seal_ray.storage.ledger import Ledger
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


@pytest.mark.parametrize("store", ["disk", "file"], indirect=True)  # fsspec's memory looks first and then writes
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


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_folder_that_can_not_be_listed_is_not_taken_for_empty(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path), QUICK)
    store.create("a", b"1")
    store.create("deep/b", b"2")
    unlistable(monkeypatch, tmp_path / "deep", number)
    for look in (store.list, store.left_behind):
        with pytest.raises(StorageError, match=rf"list {tmp_path}: .*{os.strerror(number)}: '{tmp_path}/deep'"):
            look()
    with pytest.raises(OSError, match=os.strerror(number)):
        store.upload_dir(tmp_path, "kept")
    assert store.list("deep/b/") == [], "a file is no folder, and nothing is below it"


def test_a_folder_that_goes_while_it_is_listed_takes_nothing_else_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path), QUICK)
    store.create("a", b"1")
    (tmp_path / "gone").mkdir()
    real = os.scandir

    def scandir(path: str) -> object:
        found = real(path)
        if path == str(tmp_path / "gone"):
            os.rmdir(path)
        return found

    monkeypatch.setattr(os, "scandir", scandir)
    assert [e.path for e in store.list()] == ["a"]
