"""One writer: who holds a run, who may take it over, and what a replaced driver's writing counts."""

import errno
import os
import threading
import uuid
from pathlib import Path

import pytest
from ledger_samples import SETTINGS, begin, expire, named, segment, trial
from unlistable import unlistable

from seal_ray.config import StorageSection
from seal_ray.errors import Fenced, InfraError, LedgerError, StorageError
from seal_ray.events import Warned
from seal_ray.storage import codec, epochs
from seal_ray.storage.garbage import gc
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.store import Store
from seal_ray.storage.verification import verify


@pytest.fixture(params=["disk", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "run") if request.param == "disk" else f"memory://{uuid.uuid4().hex}"


def test_nothing_is_written_without_holding_the_run(uri: str) -> None:
    begin(uri).close()
    for ledger in (Ledger(uri, SETTINGS), Ledger(uri, SETTINGS, read_only=True)):
        with pytest.raises(LedgerError, match="reading only"):
            ledger.round(1).append("trials", trial("c"))
        with pytest.raises(LedgerError, match="reading only"):
            ledger.round(1).put("gate.json", {})
    with pytest.raises(LedgerError, match="read only"):
        Ledger(uri, read_only=True).acquire("me")


def test_nothing_is_taken_after_the_release(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    writer = ledger._connection.writer
    assert writer
    ledger.close()
    with pytest.raises(LedgerError, match="released"):
        writer.append("rounds/0001/trials", b"{}")


def test_a_second_driver_is_told_who_holds_the_run_and_until_when(uri: str) -> None:
    ledger = begin(uri, "machine-a:12")
    with pytest.raises(InfraError, match=r"machine-a:12 \(epoch 1\).*until \d{4}-\d\d-\d\d.*UTC"):
        begin(uri, "machine-b:99")
    assert ledger.acquire("machine-a:12") == 1
    ledger.close()
    assert begin(uri, "machine-b:99")._connection.epoch == 2


def test_what_a_killed_driver_has_left_is_known_after_its_heartbeat_was_cleared_away(tmp_path: Path) -> None:
    killed = begin(str(tmp_path))
    killed.leave_note(lambda: {"spent": {"hours": 2.5}})
    expire(killed)
    tidy = Ledger(str(tmp_path), SETTINGS)
    assert "epochs/000001.beat.json" in [waste.path for waste in gc(tidy, dry_run=False)]
    assert tidy.note() == {"spent": {"hours": 2.5}}
    tidy.close()
    assert Ledger(str(tmp_path), SETTINGS).note() == {"spent": {"hours": 2.5}}


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


def test_a_take_over_that_can_not_list_a_folder_does_not_say_what_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = begin(str(tmp_path))
    ledger.round(1).append("trials", trial("c1"))
    ledger.close()
    unlistable(monkeypatch, tmp_path / "rounds/0001/trials", errno.EIO)
    with pytest.raises(StorageError, match="Input/output error"):
        begin(str(tmp_path))
    assert not (tmp_path / "epochs/000002.seen.json").exists(), "trials that are there would never count again"


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
