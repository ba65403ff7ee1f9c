"""The record of a run: what is written once, what counts, and what is refused."""

import dataclasses
import math
import os
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from ledger_samples import SETTINGS, begin, committed, edit, expire, named, segment, trial

from seal_ray.config import StorageSection
from seal_ray.errors import AlreadyThere, Fenced, InfraError, LedgerError, Missing, StorageError
from seal_ray.events import Warned
from seal_ray.records import Verdict
from seal_ray.storage import codec, epochs
from seal_ray.storage.garbage import gc
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.store import Store
from seal_ray.storage.verification import verify


@pytest.fixture(params=["disk", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "run") if request.param == "disk" else f"memory://{uuid.uuid4().hex}"


# a run and its rounds


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


def test_nothing_is_written_without_holding_the_run(uri: str) -> None:
    begin(uri).close()
    for ledger in (Ledger(uri, SETTINGS), Ledger(uri, SETTINGS, read_only=True)):
        with pytest.raises(LedgerError, match="reading only"):
            ledger.round(1).append("trials", trial("c"))
        with pytest.raises(LedgerError, match="reading only"):
            ledger.round(1).put("gate.json", {})
    with pytest.raises(LedgerError, match="read only"):
        Ledger(uri, read_only=True).acquire("me")


# events


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


# failing uploads


def test_a_failed_upload_stops_the_driver_and_is_made_up_for_by_the_next_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = begin(str(tmp_path))
    real, broken = Store.create, True

    def create(self: Store, path: str, data: bytes) -> None:
        if broken:
            raise StorageError(f"create {path}: no")
        real(self, path, data)

    monkeypatch.setattr(Store, "create", create)
    ledger.round(1).append("trials", trial("c1"))
    with pytest.raises(StorageError, match="rounds/0001/trials"):
        ledger.round(1).flush()
    with pytest.raises(StorageError):
        ledger.round(1).append("trials", trial("c2"))
    with pytest.raises(StorageError):
        ledger.round(1).commit({})
    broken = False
    ledger.round(1).flush()
    ledger.round(1).append("trials", trial("c3"))
    ledger.close()
    assert {"c1", "c3"} <= set(Ledger(str(tmp_path)).round(1).records("trials"))


def refusing(monkeypatch: pytest.MonkeyPatch, where: str) -> list[bool]:
    """Creates below a folder fail while the list holds something."""
    real, broken = Store.create, [True]

    def create(self: Store, path: str, data: bytes) -> None:
        if broken and where in path:
            raise StorageError(f"create {path}: no")
        real(self, path, data)

    monkeypatch.setattr(Store, "create", create)
    return broken


def test_a_record_that_was_not_taken_has_no_name_and_can_be_appended_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = begin(str(tmp_path))
    broken = refusing(monkeypatch, "/trials/")
    ledger.round(1).append("trials", trial("c1"))
    with pytest.raises(StorageError):
        ledger.round(1).flush()
    with pytest.raises(StorageError):
        ledger.round(1).append("trials", trial("c2"))
    assert "c2" not in ledger.round(1).records("trials")
    broken.clear()
    ledger.round(1).flush()
    assert ledger.round(1).append("trials", trial("c2"))
    ledger.round(1).commit({})
    ledger.close()
    reader = Ledger(str(tmp_path), read_only=True)
    manifest = reader.manifest(1)
    assert manifest and manifest["records"]["trials"]["count"] == 2 == len(reader.round(1).records("trials"))
    assert verify(reader) == []


def test_a_commit_counts_what_is_in_the_store_and_not_what_was_meant_to_be(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    ledger.round(1).append("trials", trial("c1"))
    ledger.flush()
    writer = ledger._connection.writer
    assert writer
    path, landed = writer.landed.popitem()
    with pytest.raises(LedgerError, match="holds 0 of the 1 records"):
        ledger.round(1).commit({})
    writer.landed[path] = landed
    ledger.round(1).commit({})
    ledger.close()


def test_nothing_is_taken_after_the_release(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    writer = ledger._connection.writer
    assert writer
    ledger.close()
    with pytest.raises(LedgerError, match="released"):
        writer.append("rounds/0001/trials", b"{}")


def test_a_run_does_not_rest_on_its_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    ledger = Ledger(str(tmp_path), SETTINGS, sink=told.append)
    ledger.create({}, {}, 0)
    ledger.acquire("me")
    refusing(monkeypatch, "events/")
    for n in range(100):  # more than a segment
        ledger.events(Warned(f"{n} {'x' * 50}"))
    ledger.flush()
    ledger.round(1).append("trials", trial("c1"))
    ledger.round(1).put("gate.json", {})
    ledger.round(1).commit({})
    ledger.close()
    reader = Ledger(str(tmp_path), read_only=True)
    assert reader.latest() == 1 and list(reader.read_events()) == [] and verify(reader) == []
    assert "100 events could not be kept" in told[-1].message


def test_a_slow_store_holds_the_driver_back_instead_of_filling_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = begin(str(tmp_path))
    gate, real = threading.Event(), Store.create

    def create(self: Store, path: str, data: bytes) -> None:
        gate.wait(60)
        real(self, path, data)

    monkeypatch.setattr(Store, "create", create)
    done = threading.Event()

    def work() -> None:
        for n in range(1000):
            ledger.round(1).append("trials", trial(f"c{n}"))
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert not done.wait(0.5)
    writer = ledger._connection.writer
    assert writer and writer._bytes < 70_000  # 64 segments of 1,000 bytes, and one record
    gate.set()
    thread.join(60)
    ledger.close()
    assert len(Ledger(str(tmp_path)).round(1).records("trials")) == 1000


# schema versions


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


# one writer


def test_a_second_driver_is_told_who_holds_the_run_and_until_when(uri: str) -> None:
    ledger = begin(uri, "machine-a:12")
    with pytest.raises(InfraError, match=r"machine-a:12 \(epoch 1\).*until \d{4}-\d\d-\d\d.*UTC"):
        begin(uri, "machine-b:99")
    assert ledger.acquire("machine-a:12") == 1
    ledger.close()
    assert begin(uri, "machine-b:99")._connection.epoch == 2


def test_a_driver_that_slept_writes_nothing_after_it_was_replaced(tmp_path: Path) -> None:
    old = begin(str(tmp_path), "old")
    old.round(1).append("trials", trial("c1", worker="old"))
    old.flush()
    expire(old)
    new = begin(str(tmp_path), "new")
    hold = old._connection.hold
    assert hold
    hold._confirmed -= 1000  # it slept: its last answer is old
    with pytest.raises(Fenced, match="epoch 2; this was 1"):
        old.check()
    old.round(1).append("trials", trial("c2", worker="old"))
    with pytest.raises(Fenced):
        old.round(1).flush()
    with pytest.raises(Fenced):
        old.round(1).put("gate.json", {})
    with pytest.raises(Fenced):
        old.round(1).commit({})
    old.close()
    assert set(new.round(1).records("trials")) == {"c1"}
    new.round(1).commit({"by": "new"})
    new.close()
    assert verify(Ledger(str(tmp_path))) == []


def test_what_a_replaced_driver_wrote_all_the_same_does_not_count(tmp_path: Path) -> None:
    """Between its last question and its write a driver may be stopped for any time; the store takes what comes then."""
    old = begin(str(tmp_path), "old")
    old.round(1).append("trials", trial("c1"))
    old.round(1).put("tasks.json", {"tasks": [1]})
    expire(old)
    new = begin(str(tmp_path), "new")
    store = Store(str(tmp_path))
    segment(store, "rounds/0001/trials/e000001-00000002.jsonl", trial("c2", worker="late"))
    named(store, "rounds/0001/gate.json", 1, {"decision": "late"})
    named(store, "rounds/0001/manifest.json", 1, {"round": 1, "epoch": 1, "parts": []})
    segment(store, "events/e000001-00000009.jsonl", Warned("late"))
    for ledger in (new, Ledger(str(tmp_path), read_only=True)):
        assert ledger.latest() == 0
        assert set(ledger.round(1).records("trials")) == {"c1"}
        assert ledger.round(1).get("tasks.json") == {"tasks": [1]} and ledger.round(1).get("gate.json") is None
        assert list(ledger.read_events()) == []
    assert {(p.what, p.grave) for p in verify(new)} == {("late", False)}
    new.round(1).put("gate.json", {"decision": "new"})
    new.round(1).commit({"by": "new"})
    new.close()
    third = begin(str(tmp_path), "third")
    for ledger in (third, Ledger(str(tmp_path), read_only=True)):
        manifest = ledger.manifest(1)
        assert manifest and manifest["by"] == "new"
        assert ledger.round(1).get("gate.json") == {"decision": "new"}
    gc(third, dry_run=False)
    third.close()
    assert Ledger(str(tmp_path)).latest() == 1 and verify(Ledger(str(tmp_path))) == []
    assert not [p for p in (tmp_path / "rounds/0001").iterdir() if p.name in ("gate.json", "manifest.json")]


def test_a_take_over_that_was_cut_short_takes_nothing_away(tmp_path: Path) -> None:
    old = begin(str(tmp_path))
    old.round(1).append("trials", trial("c1"))
    old.close()
    named(Store(str(tmp_path)), epochs.epoch_path(2), 2, {"owner": "x", "lease": 1, "nonce": "", "process": {}})
    os.utime(tmp_path / "epochs/000002.json", (1, 1))
    ledger = begin(str(tmp_path))
    assert ledger._connection.epoch == 3 and set(ledger.round(1).records("trials")) == {"c1"}
    ledger.close()


def test_a_holder_whose_process_is_gone_from_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        begin(str(tmp_path), "child")
        os._exit(0)
    os.waitpid(child, 0)
    ledger = begin(str(tmp_path), "parent")
    assert ledger._connection.epoch == 2
    ledger.close()


def test_of_many_drivers_one_takes_the_run(uri: str) -> None:
    Ledger(uri, SETTINGS).create({}, {}, 0)
    for race in range(10):
        assert_one_winner(uri, SETTINGS, race)


def assert_one_winner(uri: str, settings: StorageSection, race: int) -> None:
    ready, won, lost = threading.Barrier(4), [], []

    def take(number: int) -> None:
        ledger = Ledger(uri, settings)
        ready.wait()
        try:
            ledger.acquire(f"driver-{number}")
            won.append(ledger)
        except InfraError as error:
            lost.append(error)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(won) == 1 and len(lost) == 3
    assert won[0]._connection.epoch == race + 1
    won[0].close()


def test_a_folder_that_was_never_kept_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="version"):
        Ledger(str(tmp_path)).round(1).get_dir("version", tmp_path / "x")


def test_no_part_has_a_name_that_leaves_its_round(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    for name in ("../run.json", "a/b.json", "", ".hidden"):
        with pytest.raises(LedgerError, match="no name"):
            ledger.round(1).put(name, {})
    ledger.close()


def test_a_store_that_lets_two_create_one_object_lets_no_second_driver_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(str(tmp_path / "run"), StorageSection())
    ledger.create({}, {}, 0)
    create = Store.create

    def look_then_write(self: Store, path: str, data: bytes) -> None:
        create(self, path, data)
        if path == "epochs/000001.json":  # the other driver had looked before we wrote
            other = {"owner": "other", "lease": 60.0, "nonce": "another", "process": {}}
            self.write(path, codec.pack_part(path, 1, other))

    monkeypatch.setattr(Store, "create", look_then_write)
    with pytest.raises(InfraError, match="does not honour"):
        ledger.acquire("me")
