"""Commands on a run in S3 write as the run does, and say what its bucket keeps beside it."""

import json
from pathlib import Path

import pytest
from two_versions import two_versions

from seal_ray import cli
from seal_ray.config import StorageSection
from seal_ray.records import ADAPTER, Answer, Trial
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


def test_whatever_is_decided_or_taken_away_goes_through_the_runs_storage_section(
    bucket: str, s3_endpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The endpoint alone is told: encryption and key are taken from the record, for each command that writes."""
    uri = f"{bucket}/run"
    section = {"endpoint": s3_endpoint, "encryption": "aws:kms", "kms_key": "the customer's"}
    two_versions(uri, tmp_path, *(f"storage.{key}={value}" for key, value in section.items()))

    def on(command: str, *words: str) -> str:
        return call(capsys, command, uri, "--endpoint", s3_endpoint, *words)

    assert json.loads(on("status", "--json"))["current"] == 2
    on("rollback", "--to", "1", "--why", "it writes worse edits")
    assert json.loads(on("status", "--json"))["rollback"]["why"] == "it writes worse edits"
    assert ["current" in line for line in on("lineage").splitlines()] == [False, True, False]
    on("export", "--to", str(tmp_path / "out"), "--as", "adapter")
    assert (tmp_path / "out" / ADAPTER).read_bytes() == (tmp_path / "made-1" / ADAPTER).read_bytes()
    on("report", "--to", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").stat().st_size > 1000
    assert uri in on("compare", uri) and len(json.loads(on("regrade", "--json"))["rounds"]) == 3
    ledger = Ledger(uri, StorageSection(**section))  # type: ignore[arg-type]
    ledger.acquire("me")
    ledger.round(3).put("gate.json", {"decision": "hold", "advice": "accept", "figures": {}, "reasons": []})
    ledger.close()
    on("approve", "--why", "seen by hand")
    store = Store(uri, StorageSection(endpoint=s3_endpoint))
    backend = store._s3
    assert backend
    paths = [e.path for e in store.list()]
    assert {"decision", "parent", "gate"} <= {Path(path).name.split(".")[0] for path in paths}
    assert [path for path in paths if backend.encryption(path) != "aws:kms"] == []
