"""Files that go up in several parts: lost replies, names that are taken, uploads that nobody completed."""

import os
import threading
import time
from pathlib import Path

import pytest
import s3_proxy

from seal_ray.config import StorageSection
from seal_ray.errors import AlreadyThere, StorageError
from seal_ray.storage import large_uploads
from seal_ray.storage.garbage import gc
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.objects import file_digest
from seal_ray.storage.store import Store

SIZE = large_uploads.SMALLEST + 100_000  # two parts


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_uploads, "LIMIT", SIZE)
    monkeypatch.setattr(large_uploads, "PART", large_uploads.SMALLEST)


def settings(endpoint: str) -> StorageSection:
    return StorageSection(endpoint=endpoint, patience=20, timeout=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "up").mkdir()
    (tmp_path / "up/weights").write_bytes(os.urandom(SIZE))
    return tmp_path / "up"


def only(kind: str, method: str, word: str, times: int = 1) -> s3_proxy.Plan:
    left = times

    def plan(request: str, path: str) -> str:
        nonlocal left
        if left and request == method and word in path:
            left -= 1
            return kind
        return ""

    return plan


@pytest.mark.parametrize("kind", ["lost_reply", "internal"])
@pytest.mark.parametrize(("method", "word"), [("POST", "uploads"), ("PUT", "partNumber"), ("POST", "uploadId")])
def test_a_fault_on_any_request_of_an_upload_is_got_over(
    bucket: str, s3_endpoint: str, folder: Path, kind: str, method: str, word: str
) -> None:
    with s3_proxy.before(s3_endpoint) as proxy:
        proxy.plan = only(kind, method, word)
        parts = Store(bucket, settings(proxy.endpoint)).upload_dir(folder, "v")
        assert proxy.injected[kind] == 1
    store = Store(bucket, settings(s3_endpoint))
    assert store.part("v/weights") == parts[0] and parts[0].sha256 == file_digest(str(folder / "weights"))
    assert store.upload_dir(folder, "v") == parts


def completing(*kinds: str) -> tuple[s3_proxy.Plan, list[str]]:
    """These faults, one after another, on what completes an upload; and every upload that is begun."""
    left, begun = list(kinds), list[str]()

    def plan(method: str, path: str) -> str:
        if method == "POST" and "uploadId" not in path:
            begun.append(path)
        return left.pop(0) if left and method == "POST" and "uploadId" in path else ""

    return plan, begun


@pytest.mark.parametrize(
    ("kinds", "times"), [(("lost_reply", "no_upload"), 1), (("no_upload",), 2), (("no_upload", "no_upload"), 3)]
)
def test_an_upload_that_the_store_has_forgotten_was_completed_or_is_begun_again(
    bucket: str, s3_endpoint: str, folder: Path, kinds: tuple[str, ...], times: int
) -> None:
    """Some stores know nothing of an upload once it is complete, and say so where the first reply was lost."""
    with s3_proxy.before(s3_endpoint) as proxy:
        proxy.plan, begun = completing(*kinds)
        (part,) = Store(bucket, settings(proxy.endpoint)).upload_dir(folder, "v")
    assert len(begun) == times
    assert Store(bucket, settings(s3_endpoint)).part("v/weights") == part
    assert part.sha256 == file_digest(str(folder / "weights"))


def test_a_store_that_forgets_every_upload_is_named(bucket: str, s3_endpoint: str, folder: Path) -> None:
    with s3_proxy.before(s3_endpoint) as proxy:
        proxy.plan, begun = completing(*["no_upload"] * 9)
        with pytest.raises(StorageError, match="the store forgot the upload 3 times; look for a lifecycle rule"):
            Store(bucket, settings(proxy.endpoint)).upload_dir(folder, "v")
    assert len(begun) == 3


def test_other_content_is_refused_also_while_it_is_on_its_way(bucket: str, s3_endpoint: str, folder: Path) -> None:
    store = Store(bucket, settings(s3_endpoint))
    store.upload_dir(folder, "v")
    mine = (folder / "weights").read_bytes()
    (folder / "weights").write_bytes(os.urandom(SIZE))
    with pytest.raises(AlreadyThere, match="v/weights"):
        store.upload_dir(folder, "v")
    with pytest.raises(AlreadyThere):
        store.create("v/weights", os.urandom(SIZE))
    store.create("v/weights", mine)
    # whoever claims a name has it, whether or not the server honours a condition on the completion of an upload
    store.create(large_uploads.claim("w/weights"), b"the digest of something else")
    with pytest.raises(AlreadyThere, match="on its way"):
        store.upload_dir(folder, "w")
    assert not store.exists("w/weights")


def test_of_many_creators_of_a_large_object_one_wins(bucket: str, s3_endpoint: str) -> None:
    store = Store(bucket, settings(s3_endpoint))
    contents, won = [os.urandom(SIZE) for _ in range(3)], []

    def create(number: int) -> None:
        try:
            store.create("race", contents[number])
            won.append(number)
        except AlreadyThere:
            pass

    threads = [threading.Thread(target=create, args=(n,)) for n in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(won) == 1 and store.read("race") == contents[won[0]]


def test_an_upload_that_fails_for_good_leaves_no_parts_and_one_that_was_killed_goes_with_gc(
    bucket: str, s3_endpoint: str, folder: Path
) -> None:
    with s3_proxy.before(s3_endpoint) as proxy:
        proxy.plan = only("denied", "POST", "uploadId")
        with pytest.raises(StorageError, match="AccessDenied"):
            Store(f"{bucket}/run", settings(proxy.endpoint)).upload_dir(folder, "v")
    storage = settings(s3_endpoint).model_copy(update={"lease": 0.001})
    ledger = Ledger(f"{bucket}/run", storage)
    ledger.create({}, {}, 0)
    assert ledger.store.unfinished() == []
    backend = ledger.store._s3
    assert backend
    upload = backend.begin_upload("rounds/0001/version/weights")
    backend.upload_part("rounds/0001/version/weights", upload, 1, b"x" * large_uploads.SMALLEST)
    until, waste = time.monotonic() + 30, []
    while not waste and time.monotonic() < until:  # S3 dates uploads in whole seconds
        waste = [w for w in gc(ledger, dry_run=True) if w.upload]
    assert [(w.path, w.reason) for w in waste] == [
        ("rounds/0001/version/weights", "an upload that was never completed")
    ]
    gc(ledger, dry_run=False)
    assert ledger.store.unfinished() == []


def test_a_store_that_loses_a_part_of_a_large_object_is_found_out(
    bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(bucket, settings(s3_endpoint))
    backend = store._s3
    assert backend
    complete = backend.complete_upload
    monkeypatch.setattr(backend, "complete_upload", lambda key, upload, tags: complete(key, upload, tags[:1]))
    with pytest.raises(StorageError, match=rf"{large_uploads.SMALLEST + 1} bytes went up in two parts, \d+ are there"):
        store.probe_large()
    assert store.list() == []


def test_an_encryption_that_the_store_ignores_is_found_out(
    bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(bucket, settings(s3_endpoint).model_copy(update={"encryption": "AES256"}))
    store.probe()
    store.probe_large()
    assert store.list() == []
    backend = store._s3
    assert backend
    store.create("large", os.urandom(SIZE))
    assert backend.encryption("large") == "AES256"
    monkeypatch.setattr(backend, "encryption", lambda key: "")
    with pytest.raises(StorageError, match=r"ignored storage.encryption: AES256.*plain text.*leave storage.encryption"):
        store.probe()
