"""What the ledger does where the store refuses, fails or is slow."""

import errno
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from ledger_samples import SETTINGS, begin, trial
from meeting import Meeting
from unlistable import unlistable

from seal_ray.errors import LedgerError, StorageError
from seal_ray.events import Warned
from seal_ray.records import Verdict
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.store import Store
from seal_ray.storage.verification import verify


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


def test_what_belongs_together_is_in_one_segment_whatever_its_size(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    part = ledger.round(1)
    given = {c: [Verdict(c, f"question-{n}", "exact", True, 1.0) for n in range(12)] for c in ("one", "two")}
    assert part.append("verdicts", given["one"][0])
    taken = [part.append_together("verdicts", own) for own in (given["one"], given["two"], given["two"])]
    assert taken == [11, 12, 0]
    ledger.flush()
    lines = [p.read_text() for p in sorted((tmp_path / "rounds/0001/verdicts").iterdir())]
    assert max(map(len, lines)) > SETTINGS.segment_bytes and len(lines) > 1
    assert all(text.count('"two"') in (0, 12) for text in lines), "a driver that dies could leave a part of them"
    assert [v for own in given.values() for v in own] == list(part.records("verdicts").values())
    ledger.close()


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


def test_a_folder_is_kept_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "version/deep").mkdir(parents=True)
    for name in ("a", "deep/b"):
        (tmp_path / "version" / name).write_text(name)
    ledger = begin(str(tmp_path / "run"))
    unlistable(monkeypatch, tmp_path / "version/deep", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        ledger.round(1).put_dir("version", tmp_path / "version")
    monkeypatch.undo()
    assert ledger.round(1).get("version.files.json") is None
    parts = ledger.round(1).put_dir("version", tmp_path / "version")
    assert [p.path.partition("/version/")[2].partition("/")[2] for p in parts] == ["a", "deep/b"]
    ledger.close()


def test_whoever_leaves_in_a_hurry_is_not_kept_by_what_the_store_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for broken in ("rounds/", "epochs/"):  # what was appended, and the release itself
        monkeypatch.undo()
        run = str(tmp_path / broken)
        hurried, patient = begin(f"{run}/hurried"), begin(f"{run}/patient")
        refusing(monkeypatch, broken)
        for ledger in (hurried, patient):
            ledger.round(1).append("trials", trial("c1"))
        hurried.close(within=5)
        assert f"create {broken}" in caplog.text and "was not brought to its end" in caplog.text
        assert not hurried.holds
        caplog.clear()
        with pytest.raises(StorageError, match=f"create {broken}"):
            patient.close()


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


def test_as_many_segments_go_up_at_once_as_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = begin(str(tmp_path), settings=SETTINGS.model_copy(update={"parallel": 3}))
    meeting, real = Meeting(3), Store.create

    def create(self: Store, path: str, data: bytes) -> None:
        with meeting.join() if "/trials/" in path else nullcontext():
            real(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "create", create)
        for n in range(60):
            ledger.round(1).append("trials", trial(f"c{n}"))
        ledger.round(1).flush()
    assert meeting.most == 3
    ledger.close()
    assert len(Ledger(str(tmp_path)).round(1).records("trials")) == 60


def test_events_that_find_the_queue_full_are_dropped_and_hold_nobody_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    ledger = Ledger(str(tmp_path), SETTINGS, sink=told.append)
    ledger.create({}, {}, 0)
    ledger.acquire("me")
    gate, real = threading.Event(), Store.create

    def create(self: Store, path: str, data: bytes) -> None:
        if "events/" in path:
            gate.wait(60)
        real(self, path, data)

    monkeypatch.setattr(Store, "create", create)
    done = threading.Event()

    def work() -> None:
        for n in range(2000):  # some 140,000 bytes, where 64,000 may wait
            ledger.events(Warned(f"{n} {'x' * 50}"))
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert done.wait(60), "telling waits for the store"
    ledger.round(1).append("trials", trial("c1"))
    ledger.round(1).flush()
    gate.set()
    thread.join(60)
    ledger.close()
    kept = len(list(Ledger(str(tmp_path), read_only=True).read_events()))
    assert 0 < kept < 2000 and f"{2000 - kept} events could not be kept" in told[-1].message
