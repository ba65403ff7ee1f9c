"""The promises of a store on an S3 that is no imitation, where one is installed (see `ceph_server`)."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import ledger_round
import pytest
import s3_proxy

from seal_ray.config import StorageSection
from seal_ray.errors import AlreadyThere, StorageError
from seal_ray.storage import large_uploads
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.store import Store
from seal_ray.storage.verification import verify

pytestmark = pytest.mark.slow


def test_a_run_is_made_and_verified(real_bucket: str, real_s3: str, tmp_path: Path) -> None:
    storage = ledger_round.settings(real_s3)
    Store(real_bucket, storage).probe()
    Store(real_bucket, storage).probe_large()
    ledger_round.drive(f"{real_bucket}/run", storage, str(tmp_path / "log"))
    reader = Ledger(f"{real_bucket}/run", storage, read_only=True)
    assert reader.latest() == 2 and verify(reader) == []


def test_a_large_object_is_created_once_where_the_condition_on_its_completion_is_ignored(
    real_bucket: str, real_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = large_uploads.SMALLEST + 100_000
    monkeypatch.setattr(large_uploads, "LIMIT", size)
    monkeypatch.setattr(large_uploads, "PART", large_uploads.SMALLEST)
    store = Store(real_bucket, StorageSection(endpoint=real_s3))
    for race in range(5):
        contents, won = [os.urandom(size) for _ in range(4)], []

        def create(number: int, race: int = race, contents: list[bytes] = contents, won: list[int] = won) -> None:
            try:
                store.create(f"race-{race}", contents[number])
                won.append(number)
            except AlreadyThere:
                pass

        threads = [threading.Thread(target=create, args=(n,)) for n in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(won) == 1 and store.read(f"race-{race}") == contents[won[0]]
    assert store.unfinished() == []


def test_a_lost_reply_on_the_completion_of_an_upload_is_got_over(
    real_bucket: str, real_s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_uploads, "LIMIT", large_uploads.SMALLEST)
    monkeypatch.setattr(large_uploads, "PART", large_uploads.SMALLEST)
    (tmp_path / "weights").write_bytes(os.urandom(large_uploads.SMALLEST * 2 + 7))
    with s3_proxy.before(real_s3) as proxy:
        left = [1]

        def plan(method: str, path: str) -> str:
            return "lost_reply" if method == "POST" and "uploadId" in path and left and left.pop() else ""

        proxy.plan = plan
        parts = Store(real_bucket, StorageSection(endpoint=proxy.endpoint)).upload_dir(tmp_path, "v")
        assert proxy.injected["lost_reply"] == 1
    assert Store(real_bucket, StorageSection(endpoint=real_s3)).part("v/weights") == parts[0]


def test_wrong_credentials_get_the_right_advice(
    real_bucket: str, real_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys\n"
        "from seal_ray.config import StorageSection\n"
        "from seal_ray.errors import StorageError\n"
        "from seal_ray.storage.store import Store\n"
        "try:\n    Store(sys.argv[1], StorageSection(endpoint=sys.argv[2])).info('a')\n"
        "except StorageError as error:\n    print(error)\n"
    )

    def said(**environment: str) -> str:
        command = [sys.executable, "-c", code, real_bucket, real_s3]
        return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60).stdout

    assert "set credentials" in said(AWS_ACCESS_KEY_ID="NOSUCHKEY00000000001")
    assert "set credentials" in said(AWS_SECRET_ACCESS_KEY="another")


def test_an_encryption_that_is_not_honoured_is_found_out(real_bucket: str, real_s3: str) -> None:
    store = Store(real_bucket, StorageSection(endpoint=real_s3, encryption="AES256"))
    try:
        store.probe()
    except StorageError as error:
        assert "encryption" in str(error) or "SSE" in str(error) or "InvalidRequest" in str(error)
    else:
        backend = store._s3
        store.write("a", b"1")
        assert backend and backend.encryption("a") == "AES256"
