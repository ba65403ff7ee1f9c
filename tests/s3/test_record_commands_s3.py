"""Commands on a run in S3 write as the run does, and say what its bucket keeps beside it."""

import json

import pytest

from seal_ray import cli
from seal_ray.config import StorageSection
from seal_ray.records import Answer, Trial
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.store import Store

SECRET = "the customer's passage, which nobody may read"


def a_run(uri: str, storage: StorageSection) -> None:
    ledger = Ledger(uri, storage)
    ledger.create({"storage": storage.model_dump(mode="json")}, {}, 0)
    ledger.acquire("me")
    part = ledger.round(1)
    tasks = [{"id": name, "data": {"context": f"{SECRET} {name}"}} for name in ("t1", "t2")]
    part.put("tasks.json", {"tasks": tasks})
    for n in range(10):
        part.append("trials", Trial(f"c{n}", f"t{1 + n % 2}", answers=(Answer("q", SECRET, 2, "stop", 0.0),)))
    part.commit({})
    ledger.close()


def call(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert not cli.app(list(words), standalone_mode=False)
    return capsys.readouterr().out


def test_what_a_command_writes_is_encrypted_like_the_run(
    bucket: str, s3_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"{bucket}/run"
    a_run(uri, StorageSection(endpoint=s3_endpoint, encryption="aws:kms", kms_key="key-of-the-customer"))
    call(capsys, "gc", uri, "--endpoint", s3_endpoint, "--delete")
    call(capsys, "delete", uri, "--endpoint", s3_endpoint, "--task", "t1")
    store = Store(uri, StorageSection(endpoint=s3_endpoint))
    backend = store._s3
    assert backend
    plain = [e.path for e in store.list() if backend.encryption(e.path) != "aws:kms"]
    assert plain == [] and len(store.list()) > 8


def test_a_versioned_bucket_is_said_to_keep_what_was_deleted_and_purged_where_asked(
    bucket: str, s3_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, storage = f"{bucket}/run", StorageSection(endpoint=s3_endpoint)
    backend = Store(uri, storage)._s3
    assert backend
    backend._call("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
    a_run(uri, storage)
    said = call(capsys, "delete", uri, "--endpoint", s3_endpoint, "--task", "t1")
    assert "the bucket keeps 2 earlier states of these objects, with the text; --purge deletes them" in said
    said = call(capsys, "delete", uri, "--endpoint", s3_endpoint, "--task", "t1", "--purge", "--json")
    assert json.loads(said)["purged"] == 2 and json.loads(said)["noncurrent"] == 0
    mine = [s for s in backend.noncurrent() if s.path.startswith("rounds/")]
    assert mine == []
