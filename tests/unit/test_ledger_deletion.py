"""A task that is deleted is gone from everywhere, however often the deletion was interrupted."""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from ledger_samples import SETTINGS, begin, edit, trial
from made_events import make

from seal_ray.errors import DataError, StorageError
from seal_ray.events import TrialFailed
from seal_ray.records import Answer, Verdict, digest
from seal_ray.storage.deletion import delete_task
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.store import Store
from seal_ray.storage.verification import verify


def test_a_deleted_task_leaves_no_text_and_a_tombstone(tmp_path: Path) -> None:
    secret, other = "the customer's passage, which nobody may read", "another passage that may well stay"
    ledger = begin(str(tmp_path))
    part = ledger.round(1)
    tasks = [
        {"id": "t1", "data": {"context": secret}, "group": "g"},
        {"id": "t2", "data": {"context": other}, "group": "g"},
    ]
    part.put("tasks.json", {"tasks": tasks})
    for task, text in (("t1", secret), ("t2", other)):
        part.append("edits", dataclasses.replace(edit(f"e-{task}", task), text=text))
        part.append(
            "trials", dataclasses.replace(trial(f"c-{task}", task), answers=(Answer("q", text, 2, "stop", 0.0),))
        )
        part.append("verdicts", Verdict(f"c-{task}", "q", "lexical", True, 1.0))
        ledger.events(make(TrialFailed, task=task, message=text))
    part.put("selection.json", {"choices": [{"task": "t1", "edit": "e-t1"}, {"task": "t2", "edit": "e-t2"}]})
    part.commit({"round": 1})
    ledger.close()
    with pytest.raises(DataError, match="no task 't9'"):
        delete_task(Ledger(str(tmp_path), SETTINGS), "t9")
    done = delete_task(Ledger(str(tmp_path), SETTINGS), "t1")
    assert done.records == 6 and done.leftovers == ()
    everything = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert secret.encode() not in everything and other.encode() in everything
    reader = Ledger(str(tmp_path), read_only=True)
    assert reader.latest() == 1 and verify(reader) == []
    assert set(reader.round(1).records("edits")) == {"e-t2"} and set(reader.round(1).records("verdicts")) == {
        "c-t2/q/lexical"
    }
    assert reader.round(1).get("selection.json") == {"choices": [{"task": "t2", "edit": "e-t2"}]}
    assert [e.task for e in reader.read_events() if isinstance(e, TrialFailed)] == ["t2"]
    assert (tmp_path / done.tombstone).exists()
    assert delete_task(Ledger(str(tmp_path), SETTINGS), "t1").records == 0


SECRET = "the customer's passage, which nobody may read"


def name_of(*what: object) -> str:
    return digest([str(w) for w in what])[:16]


def a_run(folder: Path, name: str = "t1", title: str = "Harbour") -> Ledger:
    ledger = begin(str(folder))
    part = ledger.round(1)
    tasks = [
        {"id": name, "data": {"title": title, "context": SECRET}, "group": title},
        {"id": "other", "data": {"title": "Other", "context": "another passage that may well stay"}, "group": "Other"},
    ]
    part.put("tasks.json", {"tasks": tasks})
    for task in (name, "other"):
        for n in range(12):
            part.append("edits", dataclasses.replace(edit(name_of("edit", task, n), task), text=f"{n} of {task}"))
            part.append("trials", trial(name_of("candidate", task, n), task))
            part.append("verdicts", Verdict(name_of("candidate", task, n), "q", "lexical", True, 1.0))
    arms = {"base": {"mean": 0.5}, "context": {"mean": 0.6}, "edit": {"mean": 0.7}}
    part.put(
        "rewards.json", {"arms": arms, "rewards": [{"task": name, "edit": name_of("edit", name, 1), "value": 1.0}]}
    )
    part.put("selection.json", {"choices": [], "abstained": {name: "no edit beats it", "other": "no edit beats it"}})
    part.commit({"round": 1})
    ledger.close()
    return Ledger(str(folder), SETTINGS)


def everything(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())


def test_a_deletion_that_was_interrupted_anywhere_is_made_whole_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run(tmp_path / "run")
    real, interrupted = Store.write, 0
    for n in range(100):
        folder = tmp_path / f"run-{n}"
        shutil.copytree(tmp_path / "run", folder)
        written: list[str] = []

        def write(self: Store, path: str, data: bytes, n: int = n, written: list[str] = written) -> None:
            if not path.startswith("epochs/"):
                if len(written) == n:
                    raise KeyboardInterrupt
                written.append(path)
            real(self, path, data)

        monkeypatch.setattr(Store, "write", write)
        with contextlib.suppress(KeyboardInterrupt):
            delete_task(Ledger(str(folder), SETTINGS), "t1")
            break
        interrupted += 1
        monkeypatch.undo()
        done = delete_task(Ledger(str(folder), SETTINGS), "t1")
        assert done.leftovers == ()
        reader = Ledger(str(folder), read_only=True)
        assert verify(reader) == []
        for kind in ("edits", "trials", "verdicts"):
            assert len(reader.round(1).records(kind)) == 12, (n, kind)
        assert SECRET.encode() not in everything(folder) and b"t1" not in everything(folder)
    assert interrupted >= 10


def test_a_task_that_is_called_like_an_arm_takes_no_arm_with_it(tmp_path: Path) -> None:
    done = delete_task(a_run(tmp_path, "base"), "base")
    assert done.leftovers == ()
    part = Ledger(str(tmp_path), read_only=True).round(1)
    rewards, selection = part.get("rewards.json"), part.get("selection.json")
    assert rewards and set(rewards["arms"]) == {"base", "context", "edit"} and rewards["rewards"] == []
    assert selection and set(selection["abstained"]) == {"other"}


def test_regrades_and_the_judges_cache_are_looked_into(tmp_path: Path) -> None:
    ledger = a_run(tmp_path)
    graded = {
        "verdicts": [{"candidate": name_of("candidate", t, 1), "question": "q"} for t in ("t1", "other")],
        "rewards": {"arms": {"base": 1}, "rewards": [{"task": "t1", "edit": name_of("edit", "t1", 1)}]},
        "choices": [{"task": "t1", "edit": name_of("edit", "t1", 1), "reason": "of Harbour"}],
    }
    ledger.store.write("regrades/judge-1/0001.json", json.dumps(graded).encode())
    ledger.store.write("judge/ab/abc.json", json.dumps({"asked": SECRET}).encode())
    ledger.store.write("judge/cd/cde.json", json.dumps({"asked": "of another passage"}).encode())
    done = delete_task(ledger, "t1")
    assert done.leftovers == () and done.objects >= 6
    left = everything(tmp_path)
    assert not any(word in left for word in (b"Harbour", b"t1", SECRET.encode()))
    assert json.loads(ledger.store.read("regrades/judge-1/0001.json"))["verdicts"] == graded["verdicts"][1:]
    assert not ledger.store.exists("judge/ab/abc.json") and ledger.store.exists("judge/cd/cde.json")


def test_what_can_not_be_rewritten_is_named(tmp_path: Path) -> None:
    ledger = a_run(tmp_path)
    ledger.store.write("notes/mine.txt", f"I kept {SECRET}".encode())
    ledger.store.write("notes/title.json", b'{"title": "Harbour"}')
    assert delete_task(ledger, "t1").leftovers == ("notes/mine.txt", "notes/title.json")


def test_what_can_not_be_read_is_not_taken_for_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, read = a_run(tmp_path), Store.read

    def refused(store: Store, path: str) -> bytes:
        if "/edits/" in path:
            raise StorageError(f"{path} can't be read: access denied")
        return read(store, path)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "read", refused)
        with pytest.raises(StorageError, match="access denied"):
            delete_task(ledger, "t1")
    assert delete_task(Ledger(str(tmp_path), SETTINGS), "t1").leftovers == ()
    assert SECRET.encode() not in everything(tmp_path)
