"""The record of a run: what is written once, what counts, and what is refused."""

import dataclasses
import math
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from ledger_samples import SETTINGS, begin, committed, edit, trial

from seal_ray.errors import AlreadyThere, LedgerError, Missing
from seal_ray.events import Warned
from seal_ray.records import Verdict
from seal_ray.storage import codec
from seal_ray.storage.garbage import gc
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.verification import verify


@pytest.fixture(params=["disk", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "run") if request.param == "disk" else f"memory://{uuid.uuid4().hex}"


def test_a_run_says_what_it_was_begun_with(uri: str) -> None:
    ledger = Ledger(uri, SETTINGS)
    assert not ledger.exists() and ledger.rounds() == [] and ledger.latest() == 0
    ledger.create({"run": {"seed": 7}}, {"seal-ray": "0"}, 7)
    assert ledger.exists()
    found = Ledger(uri, read_only=True).run()
    assert (found["config"], found["software"], found["seed"]) == ({"run": {"seed": 7}}, {"seal-ray": "0"}, 7)
    ledger.create({"run": {"seed": 7}}, {"seal-ray": "0"}, 7)
    with pytest.raises(AlreadyThere):
        ledger.create({"run": {"seed": 8}}, {"seal-ray": "0"}, 8)


def test_a_round_is_what_was_put_and_appended_and_is_committed_once(uri: str, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v/adapter.safetensors").write_bytes(b"weights")
    ledger = begin(uri)
    part = ledger.round(1)
    part.put("tasks.json", {"tasks": []})
    assert part.append("edits", edit("e1")) and part.append("trials", trial("c1"))
    assert part.append("verdicts", Verdict("c1", "q", "lexical", True, 1.0))
    part.put_dir("version", tmp_path / "v")
    assert ledger.latest() == 0 and ledger.manifest(1) is None
    digest = part.commit({"round": 1, "version": {"number": 1}})
    assert part.commit({"round": 1}) == digest
    ledger.close()

    reader = Ledger(uri, read_only=True)
    manifest = reader.manifest(1)
    assert manifest and manifest["version"] == {"number": 1}
    assert reader.latest() == 1 and reader.rounds() == [1]
    assert {k: v["count"] for k, v in manifest["records"].items()} == {"edits": 1, "trials": 1, "verdicts": 1}
    again = reader.round(1)
    assert again.records("edits") == {"e1": edit("e1")} and again.records("trials") == {"c1": trial("c1")}
    assert again.get("tasks.json") == {"tasks": []} and again.get("gate.json") is None
    again.get_dir("version", tmp_path / "back")
    assert (tmp_path / "back/adapter.safetensors").read_bytes() == b"weights"
    assert verify(reader) == []


def test_the_manifest_lists_every_part_with_size_and_digest(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    ledger.round(1).append("trials", trial("c1"))
    ledger.round(1).put("gate.json", {"decision": "accept"})
    ledger.round(1).commit({})
    manifest = ledger.manifest(1)
    assert manifest
    for listed in manifest["parts"]:
        data = (tmp_path / listed["path"]).read_bytes()
        assert (listed["size"], listed["sha256"]) == (len(data), codec.sha256(data))
    assert [p["path"].split("/")[2] for p in manifest["parts"]] == ["gate.json", "trials"]
    ledger.close()


def test_the_first_record_of_an_id_counts(uri: str) -> None:
    ledger = begin(uri)
    assert ledger.round(1).append("trials", trial("c1", worker="first"))
    assert not ledger.round(1).append("trials", trial("c1", worker="second"))
    ledger.close()
    ledger = begin(uri)
    ledger.round(1).append("trials", trial("c1", worker="third"))
    assert ledger.round(1).records("trials")["c1"].worker == "first"
    ledger.close()
    assert Ledger(uri).round(1).records("trials")["c1"].worker == "first"


def test_a_part_is_written_once(uri: str) -> None:
    ledger = begin(uri)
    ledger.round(1).put("gate.json", {"decision": "accept"})
    ledger.round(1).put("gate.json", {"decision": "accept"})
    with pytest.raises(AlreadyThere, match=r"gate\.json"):
        ledger.round(1).put("gate.json", {"decision": "reject"})
    ledger.close()


def test_what_was_appended_before_a_part_is_safe_before_it(uri: str) -> None:
    ledger = begin(uri)
    ledger.round(1).append("trials", trial("c1"))
    ledger.round(1).put("rewards.json", {})
    assert set(Ledger(uri).round(1).records("trials")) == {"c1"}
    ledger.close()


def test_a_part_that_is_set_aside_can_be_made_again(uri: str, tmp_path: Path) -> None:
    ledger = begin(uri)
    part = ledger.round(1)
    for attempt in range(4):
        part.put("gate.json", {"attempt": attempt})
        part.discard("gate.json")
        assert part.get("gate.json") is None and Ledger(uri).round(1).get("gate.json") is None
    part.put("gate.json", {"attempt": 0})  # the content of one that was set aside
    for content in (b"one", b"two"):
        (tmp_path / "v").mkdir(exist_ok=True)
        (tmp_path / "v/weights").write_bytes(content)
        part.put_dir("version", tmp_path / "v")
    part.commit({})
    ledger.close()
    reader = Ledger(uri, read_only=True)
    assert reader.round(1).get("gate.json") == {"attempt": 0}
    reader.round(1).get_dir("version", tmp_path / "back")
    assert (tmp_path / "back/weights").read_bytes() == b"two"
    assert verify(reader) == []
    with pytest.raises(LedgerError, match="committed"):
        begin(uri).round(1).discard("gate.json")


def test_working_folders_are_no_part_of_the_result_and_go_after_the_commit(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c/state").write_bytes(b"optimizer")
    ledger = begin(str(tmp_path / "run"))
    ledger.round(1).put_dir("checkpoint-10", tmp_path / "c")
    ledger.round(1).commit({})
    manifest = ledger.manifest(1)
    assert manifest and manifest["parts"] == []
    assert len([w for w in gc(ledger, dry_run=True) if "checkpoint-10" in w.path]) == 2
    gc(ledger, dry_run=False)
    assert not list((tmp_path / "run/rounds/0001").rglob("state")) and ledger.latest() == 1
    assert gc(ledger, dry_run=True) == []
    ledger.close()


def test_numbers_that_json_lacks_are_refused_where_they_come_from(uri: str) -> None:
    ledger = begin(uri)
    with pytest.raises(ValueError, match="nan"):
        ledger.round(1).append("trials", dataclasses.replace(trial("c"), losses=(math.nan,)))
    assert ledger.round(1).records("trials") == {}
    ledger.close()


def test_events_are_read_in_the_order_of_their_telling(uri: str) -> None:
    ledger = Ledger(uri, SETTINGS)
    ledger.create({}, {}, 0)
    told = [Warned(str(n), round=1, time=float(n)) for n in range(50)]
    for event in told[:3]:
        ledger.events(event)  # before the take-over
    ledger.acquire("me")
    for event in told[3:]:
        ledger.events(event)
    ledger.close()
    assert list(Ledger(uri).read_events()) == told


def test_many_threads_append_and_nothing_is_lost(uri: str) -> None:
    ledger = begin(uri)

    def work(thread: int) -> None:
        for n in range(100):
            ledger.round(1).append("trials", trial(f"c{thread}-{n}"))
            ledger.events(Warned(str(n)))

    threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    ledger.close()
    reader = Ledger(uri)
    assert len(reader.round(1).records("trials")) == 400 and len(list(reader.read_events())) == 400


def test_a_newer_schema_is_refused_and_an_older_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = committed(tmp_path)

    def older(name: str, value: Any) -> Any:
        return value | {"seed": value["seed"] + 1} if name == "run.json" else value

    monkeypatch.setattr(codec, "SCHEMA", 3)
    monkeypatch.setattr(codec, "MIGRATIONS", {2: older})
    reader = Ledger(str(run), read_only=True)
    assert reader.run()["seed"] == 8 and reader.latest() == 2
    assert len(reader.round(1).records("trials")) == 20
    newer = begin(str(run))
    newer.round(3).append("trials", trial("c3"))
    newer.round(3).put("tasks.json", {})
    newer.close()
    monkeypatch.undo()
    with pytest.raises(LedgerError, match=r"schema version 3.*knows up to 2"):
        Ledger(str(run), read_only=True).round(3).records("trials")


def test_a_folder_that_was_never_kept_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="version"):
        Ledger(str(tmp_path)).round(1).get_dir("version", tmp_path / "x")


def test_no_part_has_a_name_that_leaves_its_round(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    for name in ("../run.json", "a/b.json", "", ".hidden"):
        with pytest.raises(LedgerError, match="no name"):
            ledger.round(1).put(name, {})
    ledger.close()
