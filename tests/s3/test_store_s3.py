"""The promises of a store on a real S3 endpoint over HTTP, and what happens when the endpoint misbehaves."""

import os
import threading
from pathlib import Path

import pytest
import s3_proxy

from seal_ray.config import StorageSection
from seal_ray.errors import AlreadyThere, Missing, StorageError
from seal_ray.events import Event, StoreRetried
from seal_ray.storage import large_uploads
from seal_ray.storage.store import Store


def settings(endpoint: str, **changes: object) -> StorageSection:
    return StorageSection.model_validate({"endpoint": endpoint, "patience": 20, "timeout": 10, **changes})


def test_what_was_written_is_read_listed_and_deleted(bucket: str, s3_endpoint: str) -> None:
    store = Store(f"{bucket}/a/run", settings(s3_endpoint))
    store.write("x/one", b"1")
    store.write("x/one", b"two")
    store.create("x/deep/er", b"3")
    assert store.read("x/one") == b"two"
    assert [(e.path, e.size) for e in store.list()] == [("x/deep/er", 1), ("x/one", 3)]
    assert store.names("x/") == ["deep", "one"] and store.names("") == ["x"] and store.list("y/") == []
    assert store.exists("x/one") and not store.exists("x") and not store.exists("z")
    assert abs(store.now() - store.info("x/one").modified) < 60
    store.delete("x/one")
    store.delete("x/one")
    with pytest.raises(Missing, match="a/run/x/one"):
        store.read("x/one")


def test_create_is_exclusive(bucket: str, s3_endpoint: str) -> None:
    store = Store(bucket, settings(s3_endpoint))
    store.probe()
    store.create("a", b"1")
    store.create("a", b"1")
    with pytest.raises(AlreadyThere):
        store.create("a", b"2")
    assert store.read("a") == b"1"


def test_of_many_creators_one_wins(bucket: str, s3_endpoint: str) -> None:
    store = Store(bucket, settings(s3_endpoint))
    for race in range(10):
        won: list[int] = []

        def create(number: int, race: int = race, won: list[int] = won) -> None:
            try:
                store.create(f"race-{race}", b"%d" % number)
                won.append(number)
            except AlreadyThere:
                pass

        threads = [threading.Thread(target=create, args=(n,)) for n in range(5)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(won) == 1 and store.read(f"race-{race}") == b"%d" % won[0]


def test_a_listing_has_more_than_one_page_and_comes_from_no_cache(bucket: str, s3_endpoint: str) -> None:
    store, other = (Store(bucket, settings(s3_endpoint)) for _ in range(2))
    list(store._each(lambda n: store.create(f"many/{n:05d}", b""), range(1010)))
    assert len(store.list("many/")) == 1010
    other.create("many/one-more", b"")
    assert len(store.list("many/")) == 1011 and len(store.names("many/")) == 1011


def test_a_folder_with_a_large_file_goes_up_and_comes_down_unchanged(
    bucket: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_uploads, "LIMIT", 10 << 20)
    monkeypatch.setattr(large_uploads, "PART", large_uploads.SMALLEST)
    (tmp_path / "up").mkdir()
    (tmp_path / "up/large").write_bytes(os.urandom(1_000_000) * 11)  # beyond what is sent in one request
    (tmp_path / "up/small").write_bytes(b"x")
    store = Store(bucket, settings(s3_endpoint, timeout=60))
    parts = store.upload_dir(tmp_path / "up", "v")
    assert store.upload_dir(tmp_path / "up", "v") == parts
    assert store.download([(p.path, p.path.removeprefix("v/"), p.size) for p in parts], tmp_path / "down") == parts
    (tmp_path / "up/large").write_bytes(b"other")
    with pytest.raises(AlreadyThere, match="v/large"):
        store.upload_dir(tmp_path / "up", "v")


def test_a_bucket_that_does_not_exist_is_named(s3_endpoint: str, bucket: str) -> None:
    store = Store("s3://no-such-bucket-here/run", settings(s3_endpoint))
    for call in (lambda: store.create("a", b"1"), lambda: store.read("a"), lambda: store.list("a/"), store.now):
        with pytest.raises(StorageError, match=r"no-such-bucket-here.*no such bucket; create the bucket") as found:
            call()
        assert not isinstance(found.value, Missing)


def test_an_endpoint_where_nobody_listens_is_named_after_a_while(bucket: str) -> None:
    told: list[Event] = []
    store = Store(bucket, settings("http://127.0.0.1:9", patience=1), told.append)
    with pytest.raises(StorageError, match="check endpoint and network"):
        store.create("a", b"1")
    assert told


def test_encryption_is_asked_for_with_each_object(bucket: str, s3_endpoint: str) -> None:
    store = Store(bucket, settings(s3_endpoint, encryption="aws:kms", kms_key="key-of-the-customer"))
    store.create("a", b"1")
    found = store._backend._call("head_object", Key="a")  # pyright: ignore[reportAttributeAccessIssue]
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", "key-of-the-customer")


@pytest.mark.parametrize("kind", s3_proxy.KINDS)
def test_each_fault_that_passes_is_got_over(bucket: str, s3_endpoint: str, kind: str) -> None:
    with s3_proxy.before(s3_endpoint, stall=2) as proxy:
        told: list[Event] = []
        store = Store(f"{bucket}/{kind}", settings(proxy.endpoint, timeout=1), told.append)
        left = 0

        def plan(method: str, path: str) -> str:
            nonlocal left
            left -= 1
            return kind if left >= 0 else ""

        proxy.plan = plan
        for faults in (1,) if kind == "stall" else (1, 2):
            left = faults
            store.create(f"new-{faults}", b"content " * 100)
            left = faults
            assert store.read(f"new-{faults}") == b"content " * 100
            left = faults
            assert [e.path for e in store.list("new-1")] == ["new-1"]
            left = faults
            store.write("over", b"%d" % faults)
        with pytest.raises(AlreadyThere):
            left = 1
            store.create("new-1", b"of somebody else")
        assert proxy.injected[kind] >= (5 if kind == "stall" else 13)
        assert told and {type(e) for e in told} == {StoreRetried}
        assert all("testing-key" not in str(e) for e in told)


def test_access_denied_is_not_tried_again_and_says_what_to_do(bucket: str, s3_endpoint: str) -> None:
    with s3_proxy.before(s3_endpoint) as proxy:
        proxy.plan = lambda method, path: "denied"
        with pytest.raises(StorageError, match=r"AccessDenied.*allow this account"):
            Store(bucket, settings(proxy.endpoint)).create("a", b"1")
        assert proxy.requests == 1


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that a role or a login gave out, for a time."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token-for-a-time")


@pytest.mark.usefixtures("temporary")
@pytest.mark.parametrize("operation", ["create", "info"])
def test_where_denied_may_mean_expired_credentials_are_renewed_once(
    bucket: str, s3_endpoint: str, operation: str
) -> None:
    with s3_proxy.before(s3_endpoint) as proxy:
        store = Store(bucket, settings(proxy.endpoint))
        store.write("there", b"1")
        renewed: list[int] = []
        backend = store._s3
        assert backend
        own = backend.renew

        def renew() -> None:
            renewed.append(1)
            proxy.plan = lambda method, path: ""
            own()

        backend.renew = renew
        proxy.plan = lambda method, path: "denied"
        store.create("a", b"1") if operation == "create" else store.info("there")
        assert renewed == [1]
        backend.renew = own
        proxy.plan = lambda method, path: "denied"
        with pytest.raises(StorageError, match=r"temporary and may have expired: renew them"):
            store.create("b", b"1") if operation == "create" else store.info("there")


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("wrong_key", "set credentials"), ("wrong_secret", "set credentials"), ("skew", "set this machine's clock")],
)
def test_a_head_that_is_refused_without_a_word_is_explained_by_a_get(
    bucket: str, s3_endpoint: str, kind: str, hint: str
) -> None:
    with s3_proxy.before(s3_endpoint) as proxy:
        store = Store(bucket, settings(proxy.endpoint))
        proxy.plan = lambda method, path: kind
        with pytest.raises(StorageError, match=hint):
            store.info("a")


def test_an_expired_token_is_renewed_once_or_named(bucket: str, s3_endpoint: str) -> None:
    with s3_proxy.before(s3_endpoint) as proxy:
        proxy.plan = s3_proxy.seeded(0, 1.0, ("expired",), most=1)
        store = Store(bucket, settings(proxy.endpoint))
        store.create("a", b"1")
        assert proxy.injected["expired"] == 1 and store.read("a") == b"1"
        proxy.plan = lambda method, path: "expired"
        with pytest.raises(StorageError, match=r"expired.*renew the credentials"):
            store.create("b", b"1")
        assert proxy.injected["expired"] == 4


def test_a_store_whose_create_replaces_is_found_out(bucket: str, s3_endpoint: str) -> None:
    """Old look-alikes take a conditional write and ignore the condition."""
    store = Store(bucket, settings(s3_endpoint))
    store._backend.create = store._backend.write
    with pytest.raises(StorageError, match="honours If-None-Match"):
        store.probe()
